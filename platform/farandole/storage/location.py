"""Locations: paths of this machine, and URIs."""

from __future__ import annotations

import os
import re
from pathlib import Path

Location = str | Path
"""A path of this machine, or the URI of something elsewhere."""

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://")


def is_uri(text: str) -> bool:
    """Return whether a text is a URI (`s3://…`, `package://…`) and not a path of this machine."""
    return _SCHEME.match(text) is not None


def parse_location(text: str) -> Location:
    """Return a location as the job file or a command line has it: a path unless it is a URI."""
    return text if is_uri(text) else Path(text)


def home() -> Path:
    """Return the directory of datasets, jobs and the default MLflow store: `$FARANDOLE_HOME`, or `~/.farandole`."""
    return Path(os.environ.get("FARANDOLE_HOME") or "~/.farandole").expanduser().absolute()
