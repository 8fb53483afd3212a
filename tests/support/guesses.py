"""Guesses about a table, and the job that fits it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from farandole.guessing.guess import Guess, guess, look
from farandole.guessing.job_text import write_job_file
from farandole.spec import Job, load_job


def guess_file(path: Path, label: str | None = None, **options: Any) -> Guess:
    """Guess what a job file for a file would say."""
    return guess(look(str(path)), label=label, **options)


def job_of(path: Path, label: str | None = None) -> Job:
    """Return the job of the file that init writes."""
    return load_job(write_job_file(guess_file(path, label), path.parent / "job", force=True))


def kinds_of(found: Guess) -> dict[str, str]:
    """Return the kind of each guessed feature, by column."""
    return {feature.column: feature.spec["kind"] for feature in found.features}


def left_out_of(found: Guess) -> dict[str, str]:
    """Return the reason of each column that is left out."""
    return {entry.column: entry.reason for entry in found.left_out}


def two_columns(source: random.Random, number: int) -> str:
    """Return a row of a number and a letter."""
    return f"{source.random():.3f},{source.choice('ab')}"
