from __future__ import annotations

import threading
from pathlib import Path

from tests.support.queued import MakeBackend, shell_job, wait_for_state


def test_job_is_followed_from_before_its_start_to_its_end(local: MakeBackend, tmp_path: Path) -> None:
    blocking = local(f"until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    blocking.submit(shell_job())
    backend = local("echo working; sleep 0.5; echo done")
    job_id = backend.submit(shell_job()).id
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(backend.logs(job_id, follow=True)))
    thread.start()
    (tmp_path / "go").touch()
    thread.join()
    wait_for_state(backend, job_id, "succeeded")
    assert lines[1:3] == ["working", "done"]
    assert lines[-1].endswith("succeeded: completed")
