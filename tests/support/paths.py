"""Locations of the checkout that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the checkout."""
PACKAGE = ROOT / "platform" / "farandole"
"""The sources of the package."""
SUPPORT = Path(__file__).resolve().parent
"""The folder of this module, with the scripts that tests start."""
