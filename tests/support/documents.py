"""The project's Markdown documents and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.paths import ROOT


def documents() -> list[Path]:
    """List README.md, the other documents of the root, those below docs/ and the pages of k8s/ and jobs/."""
    return sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "k8s" / "README.md", *ROOT.glob("jobs/*/*.md")]
    )


def blocks(name: str, language: str) -> list[str]:
    """Return the fenced blocks of a language in a document.

    Args:
        name: The document, relative to the root.
        language: What stands after the opening fence (`python`, `yaml`, `console`).
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[str]:
    """Return the commands of a document's `console` blocks, without their prompts."""
    lines = (line for block in blocks(name, "console") for line in block.splitlines())
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
