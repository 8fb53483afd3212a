from __future__ import annotations

import errno

import pytest

from farandole.process.os_errors import remedy_of


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
