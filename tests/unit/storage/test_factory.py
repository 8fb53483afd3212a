from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farandole.errors import StorageAccessError
from farandole.storage import LocalStorage, open_storage


def test_path_and_file_uri_are_local(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    for location in (folder, str(folder), f"file://{tmp_path}/a%20b"):
        assert open_storage(location) == LocalStorage(folder)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://key:s3cret@bucket/a", r"s3://…@bucket/a: a URI must not hold credentials; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?regoin=x", "s3://bucket/a: the URI has no option regoin; did you mean region"),
        ("s3:///a", "names no bucket; write s3://BUCKET/FOLDER"),
        ("https://host/a", "https://host/a: cannot be opened .*; fix the URI"),
    ],
)
def test_unusable_uri_is_refused_without_its_secrets(uri: str, text: str) -> None:
    with pytest.raises(StorageAccessError, match=text) as caught:
        open_storage(uri)
    assert "s3cret" not in str(caught.value)


def test_local_data_does_not_load_what_object_stores_need(tmp_path: Path) -> None:
    code = (
        "import sys, farandole.shards, farandole.storage as s; s.open_storage(sys.argv[1]).create();"
        " print([name for name in ('farandole.storage.object_store', 'farandole.shards.cache') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
