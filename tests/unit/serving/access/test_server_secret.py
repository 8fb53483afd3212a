from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import UserError
from farandole.serving.access.server_secret import SECRET_VARIABLE, read_secret


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = read_secret(tmp_path, create=True)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert read_secret(tmp_path, create=True).derive("a") == first.derive("a")
    assert len(bytes.fromhex((tmp_path / "secret").read_text())) == 32


def test_keys_for_different_purposes_differ(tmp_path: Path) -> None:
    secret = read_secret(tmp_path, create=True)
    assert len({secret.derive("a"), secret.derive("b")}) == 2
    assert (tmp_path / "secret").read_text().strip() not in repr(secret)


def test_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "elsewhere"
    file.write_text("ab" * 32)
    file.chmod(0o440)  # as Kubernetes mounts a Secret for a group
    monkeypatch.setenv(SECRET_VARIABLE, str(file))
    assert read_secret(tmp_path, create=True).derive("a") == read_secret(tmp_path, create=False).derive("a")
    assert not (tmp_path / "secret").exists()


def test_named_file_that_is_missing_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="elsewhere: No such file"):
        read_secret(tmp_path, create=True)


def test_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    read_secret(tmp_path, create=True)
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(UserError, match=r"its mode is 0644, so other users can access the secret; `chmod 600 "):
        read_secret(tmp_path, create=False)


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 16])
def test_secret_of_another_form_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    (tmp_path / "secret").chmod(0o600)
    with pytest.raises(UserError, match="are not 32 bytes in hexadecimal") as caught:
        read_secret(tmp_path, create=False)
    assert not content or content not in str(caught.value)
