"""Settings of unit tests."""

from __future__ import annotations

from hypothesis import settings

settings.load_profile("repeated")
