from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.errors import DatasetError
from farandole.privacy import Secret, read_key
from farandole.shards import (
    MANIFEST_NAME,
    Dataset,
    Manifest,
    Schema,
    ShardInfo,
    ShardWriter,
    content_digest,
    describe_encryption,
    encrypted,
    require_policies,
    verify,
    write_manifest,
)
from farandole.spec import Data, KeyReference

Columns = dict[str, np.ndarray]
KEY, OTHER_KEY = "5f" * 32, "a7" * 32
PLACE = KeyReference(environment="THE_KEY", id="spring")
ROWS = ((7, 0), (5, 7))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Secret:
    monkeypatch.setenv("THE_KEY", KEY)
    return read_key(PLACE, "key")


@pytest.fixture
def write(
    schema: Schema, rows: Callable[..., Columns], describe_manifest: Callable[..., Manifest]
) -> Callable[..., tuple[Path, Manifest]]:
    """Provide a function that writes a dataset of two shards, encrypted if there is a key."""

    def write(directory: Path, secret: Secret | None = None) -> tuple[Path, Manifest]:
        shards: list[ShardInfo] = []
        for index, (count, start) in enumerate(ROWS):
            writer = ShardWriter(directory, "train", index, schema, 3, secret)
            writer.write(rows(count, start))
            shards.append(writer.close())
        manifest = describe_manifest(train=tuple(shards), validation=())
        if secret is not None:
            encryption = describe_encryption(secret, PLACE, manifest.digest)
            manifest = manifest.model_copy(update={"encryption": encryption})
        write_manifest(directory, manifest)
        return directory, manifest

    return write


@pytest.fixture
def describe_manifest(describe: Callable[..., Manifest]) -> Callable[..., Manifest]:
    """Return the fixture of the same name, which the imported function hides."""
    return describe


def test_encrypted_rows_are_read_back_and_no_plain_byte_is_on_the_disk(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]], rows: Callable[..., Columns]
) -> None:
    directory, manifest = write(tmp_path / "sealed", key)
    plain, _ = write(tmp_path / "plain")
    reader, expected = Dataset(directory).split("train"), Dataset(plain).split("train")
    assert reader.block_rows == expected.block_rows == (3, 3, 1, 3, 2)
    for number in (4, 0, 1, 0, 2, 3):
        for name, values in expected.block(number).items():
            found = reader.block(number)[name]
            np.testing.assert_array_equal(found, values)
            assert found.dtype == values.dtype
            assert not found.flags.writeable
        reader.release(number)
    for shard in manifest.splits["train"]:
        content = (directory / shard.file).read_bytes()
        assert b"ARROW1" not in content
        assert b"dense" not in content
        for start in range(12):
            assert rows(1, start)["dense"].tobytes() not in content
    text = (directory / MANIFEST_NAME).read_text()
    assert KEY not in text
    assert manifest.encryption is not None
    assert (manifest.encryption.key, manifest.encryption.environment) == ("spring", "THE_KEY")


def test_same_key_gives_the_same_bytes(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]]
) -> None:
    first, second = write(tmp_path / "1", key)[1], write(tmp_path / "2", key)[1]
    other = write(tmp_path / "3", Secret(bytes.fromhex(OTHER_KEY), "autumn"))[1]
    assert first == second
    assert first.digest != other.digest


def test_decrypted_pieces_in_order_are_the_plain_file(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]], schema: Schema
) -> None:
    from farandole.shards.encryption import cipher_for

    directory, manifest = write(tmp_path / "sealed", key)
    plain, known = write(tmp_path / "plain")
    for shard, twin in zip(manifest.splits["train"], known.splits["train"], strict=True):
        content = (directory / shard.file).read_bytes()
        seal = cipher_for(key, shard.file, schema)
        pieces = [content[block.offset : block.offset + block.bytes] for block in shard.blocks]
        pieces.append(content[sum(map(len, pieces)) :])
        opened = b"".join(seal.decrypt(number, piece) for number, piece in enumerate(pieces))
        assert opened == (plain / twin.file).read_bytes()


def test_missing_key_is_reported_with_its_name_and_location(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = write(tmp_path, key)
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(DatasetError) as caught:
        Dataset(directory).split("train")
    message = str(caught.value)
    assert "the shards are encrypted with the key spring (fingerprint " in message
    assert "THE_KEY: the variable is not set" in message
    assert verify(directory) == []  # checksums are those of the encrypted bytes

    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    assert Dataset(directory, KeyReference(file=str(path))).split("train").block(0)["dense"].shape == (3, 3)


def test_wrong_key_is_reported(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = write(tmp_path, key)
    monkeypatch.setenv("THE_KEY", OTHER_KEY)
    for use in (lambda: Dataset(directory).split("train"), lambda: verify(directory)):
        with pytest.raises(
            DatasetError, match=r"THE_KEY holds another one \(fingerprint \w{16}\); provide the right key"
        ):
            use()


def test_every_flipped_byte_is_reported_with_shard_and_block(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]]
) -> None:
    directory, manifest = write(tmp_path, key)
    draw = random.Random(3)
    for _ in range(60):
        number = draw.randrange(2)
        shard = manifest.splits["train"][number]
        path = directory / shard.file
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        inside = [n for n, block in enumerate(shard.blocks) if block.offset <= place < block.offset + block.bytes]
        (problem,) = verify(directory)
        assert (problem.shard, problem.block) == (shard.file, inside[0] if inside else None)
        reader = Dataset(directory).split("train")
        what = f"record batch {inside[0]}" if inside else "its footer"
        with pytest.raises(DatasetError, match=rf"{path.name}: {what} is damaged"):
            reader.block(3 * number + (inside[0] if inside else 0))
        path.write_bytes(whole)
    assert verify(directory) == []


def _forged(directory: Path, manifest: Manifest, shard: ShardInfo, content: bytes) -> Manifest:
    """Return a manifest that is forged without the key: a changed shard, and all checksums adapted."""
    import xxhash

    blocks = tuple(
        block.model_copy(
            update={"xxh3_64": xxhash.xxh3_64_hexdigest(content[block.offset : block.offset + block.bytes])}
        )
        for block in shard.blocks
    )
    end = blocks[-1].offset + blocks[-1].bytes
    forged = shard.model_copy(
        update={
            "blocks": blocks,
            "xxh3_128": xxhash.xxh3_128_hexdigest(content),
            "footer_xxh3_64": xxhash.xxh3_64_hexdigest(content[end:]),
        }
    )
    (directory / shard.file).write_bytes(content)
    splits = {**manifest.splits, "train": (forged, *manifest.splits["train"][1:])}
    digest = content_digest(manifest.columns, manifest.preprocessing, splits)
    return manifest.model_copy(update={"splits": splits, "digest": digest})


def test_swapped_blocks_are_detected_even_with_forged_checksums(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]]
) -> None:
    directory, manifest = write(tmp_path, key)
    shard = manifest.splits["train"][0]
    content = (directory / shard.file).read_bytes()
    first, second = (content[b.offset : b.offset + b.bytes] for b in shard.blocks[:2])
    assert len(first) != len(second)  # the first one has the file's header
    size = shard.blocks[1].bytes
    swapped = content[: shard.blocks[1].offset] + second[:-1] + bytes([second[-1] ^ 1]) + content[len(first) + size :]
    forged = _forged(directory, manifest, shard, swapped)
    write_manifest(directory, forged)
    with pytest.raises(DatasetError, match="that were not written with the key spring"):
        Dataset(directory).split("train")
    # with a valid proof in the manifest, the block could still not be decrypted
    assert forged.encryption is not None
    proof = describe_encryption(key, PLACE, forged.digest)
    write_manifest(directory, forged.model_copy(update={"encryption": proof}))
    with pytest.raises(DatasetError, match=r"record batch 1 cannot be decrypted: it was changed"):
        Dataset(directory).split("train").block(1)
    assert [(problem.shard, problem.block) for problem in verify(directory)] == [(shard.file, 1)]


def test_shard_in_the_position_of_another_is_not_decrypted(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]]
) -> None:
    directory, manifest = write(tmp_path, key)
    first, second = manifest.splits["train"]
    moved = first.model_copy(update={"file": first.file.replace("00000", "00009")})
    (directory / first.file).rename(directory / moved.file)
    write_manifest(directory, manifest.model_copy(update={"splits": {"train": (moved, second), "validation": ()}}))
    with pytest.raises(DatasetError, match="record batch 0 cannot be decrypted"):
        Dataset(directory).split("train").block(0)


def test_few_decrypted_blocks_stay_in_memory(
    tmp_path: Path,
    key: Secret,
    write: Callable[..., tuple[Path, Manifest]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory, _ = write(tmp_path, key)
    monkeypatch.setattr(encrypted, "MAX_BLOCKS", 2)
    opened: list[int] = []
    batch = encrypted.EncryptedShard.batch

    def counted(self: encrypted.EncryptedShard, index: int) -> object:
        opened.append(index)
        return batch(self, index)

    monkeypatch.setattr(encrypted.EncryptedShard, "batch", counted)
    reader = Dataset(directory).split("train")
    kept = reader.block(0)["dense"]
    for number in (0, 1, 0, 2, 0, 1):
        reader.block(number)
    assert opened == [0, 1, 2, 1]
    reader.release(1)
    reader.block(1)
    assert opened == [0, 1, 2, 1, 1]
    np.testing.assert_array_equal(kept, reader.block(0)["dense"])


def test_job_that_requires_encryption_refuses_plain_shards(
    tmp_path: Path, key: Secret, write: Callable[..., tuple[Path, Manifest]]
) -> None:
    features = {"a": {"kind": "numeric"}}
    data = Data.model_validate(
        {
            "sources": {"rows": {"path": "rows.csv"}},
            "features": features,
            "shards": {"encryption": {"key": {"environment": "THE_KEY"}}},
            "output": "/data/rows",
        }
    )
    require_policies(data, write(tmp_path / "sealed", key)[1])
    with pytest.raises(DatasetError, match=r"data\.shards\.encryption: the job requires encrypted shards"):
        require_policies(data, write(tmp_path / "plain")[1])
