from __future__ import annotations

import errno
import os
import re

import pytest

from farandole import errors
from farandole.errors import ERRORS, FarandoleError, closest_match, explain_os_error, is_disk_full, remedy_of


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("FarandoleError", 1), ("UserError", 2), ("SpecError", 2), ("DataError", 2), ("DatasetError", 2),
        ("ModelError", 2), ("RegistryError", 2), ("StorageAccessError", 2), ("StorageError", 1), ("JobFailedError", 1),
        ("PreparationError", 1), ("TrainingError", 1), ("UnavailableError", 3),
    ],
)  # fmt: skip
def test_error_has_the_exit_code_of_its_branch(name: str, code: int) -> None:
    assert ERRORS[name].exit_code == code
    assert ERRORS[name].__name__ == name


def test_every_error_is_in_the_table_and_in_the_drawn_tree() -> None:
    defined = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, FarandoleError)
    }
    assert set(ERRORS) == defined
    drawn = re.findall(r"^ {4}[ │├└─]*(\w+)", errors.__doc__ or "", flags=re.MULTILINE)
    assert set(drawn) == defined


def test_drawn_tree_matches_the_classes() -> None:
    parents = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}([ │├└─]*)(\w+)  ", line)
        if match:
            depth = len(match[1])
            path = [(d, name) for d, name in path if d < depth]
            parents[match[2]] = path[-1][1] if path else "Exception"
            path.append((depth, match[2]))
    assert parents == {name: kind.__bases__[0].__name__ for name, kind in ERRORS.items()}


def test_detail_is_kept_beside_the_message() -> None:
    error = FarandoleError("what happened", detail="a long trace")
    assert (str(error), error.detail) == ("what happened", "a long trace")
    assert FarandoleError("short").detail is None


def test_closest_match_is_close_or_none() -> None:
    assert closest_match("epoch", ["epochs", "seed"]) == "epochs"
    assert closest_match("zzz", ["epochs", "seed"]) is None
    assert closest_match("epoch", []) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "/data: No space left on device; free some space"),
        (errno.EDQUOT, "/data: Disk quota exceeded; free some space, or raise the disk quota"),
        (errno.EACCES, "/data: Permission denied; correct the permissions"),
        (errno.ECONNRESET, "/data: Connection reset by peer"),
    ],
)
def test_only_a_full_disk_asks_for_more_space(number: int, text: str) -> None:
    error = OSError(number, os.strerror(number))
    assert explain_os_error(error, "/data") == text
    assert is_disk_full(error) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (OSError(errno.EACCES, "Permission denied"), "correct the permissions"),
        (OSError(errno.ECONNREFUSED, "Connection refused"), None),
        (OSError("without a number"), None),
        (ValueError("not of the operating system"), None),
    ],
)
def test_only_known_os_errors_have_a_remedy(error: Exception, remedy: str | None) -> None:
    assert remedy_of(error) == remedy
