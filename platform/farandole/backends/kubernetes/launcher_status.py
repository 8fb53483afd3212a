"""The launcher's status of a job, and the keys of the ConfigMap through which it and the backend communicate."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from farandole.errors import FarandoleError
from farandole.jobdir.outcome import JobProgress
from farandole.jobdir.status import JobState
from farandole.process.messages import MessageError, decode_fields

STATUS, RESULT, CANCEL = "status", "result", "cancel"
"""Keys of the ConfigMap: the launcher's status; the result document; the number of the submission to cancel."""


@dataclass(frozen=True)
class LauncherStatus:
    """State of a job, as its launcher reports it.

    Args:
        submission: The number of the submission that the launcher belongs to; 0: it has not reported yet.
        state: The job's state.
        stage: `prepare` or `train`.
        reason: One sentence that explains the state.
        attempt: The number of the training's attempt.
        workers: Number of workers of this attempt.
        step: Number of completed steps.
        epoch: Number of completed epochs.
        since: Time at which the training entered its state, ISO 8601, UTC.
        progress: The newest event of the training, and how far it is; None: there is none yet.
    """

    submission: int = 0
    state: JobState | None = None
    stage: Literal["prepare", "train"] | None = None
    reason: str = ""
    attempt: int = 0
    workers: int = 0
    step: int = 0
    epoch: int = 0
    since: str = ""
    progress: JobProgress | None = None

    def to_json(self) -> str:
        """Return the value of the key `status`."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> LauncherStatus:
        """Parse the value of the key `status`. Fields that only a newer launcher knows are ignored.

        Raises:
            FarandoleError: It is not a launcher's status.
        """
        try:
            data = json.loads(text)
            values = _known_fields(cls, data)
            if values.get("progress") is not None:
                values["progress"] = decode_fields(JobProgress, _known_fields(JobProgress, values["progress"]))
            status: LauncherStatus = decode_fields(cls, values)
        except ValueError as error:
            raise FarandoleError(
                f"Kubernetes: the launcher reported a status that this farandole cannot read ({error}); use the version"
                " of the pods' images"
            ) from error
        return status


def _known_fields(kind: type[Any], data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MessageError("it is not an object")
    known = {field.name for field in fields(kind)}
    return {name: data[name] for name in data if name in known}
