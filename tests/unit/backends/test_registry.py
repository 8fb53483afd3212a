from __future__ import annotations

import subprocess
import sys

import pytest

from farandole.backends.registry import backend_for_job, get_backend, select_backend
from farandole.errors import SpecError
from tests.support.queued import shell_job


def test_backend_is_found_by_its_name() -> None:
    assert get_backend("local").name == "local"
    with pytest.raises(SpecError, match=r"--backend: locla: there is no such backend; did you mean local\?"):
        get_backend("locla")
    with pytest.raises(SpecError, match="the backends are local, hosts, foreground, kubernetes"):
        get_backend("mainframe")


def test_job_names_its_backend_and_only_a_cluster_has_a_location() -> None:
    for name in ("local", "hosts"):
        backend = backend_for_job(shell_job(backend={"use": name}))
        assert (backend.name, backend.location) == (name, {})
    job = shell_job(backend={"use": "kubernetes", "kubernetes": {"context": "lab", "namespace": "people"}})
    backend = backend_for_job(job)
    assert backend.name == "kubernetes"
    assert backend.location_of(job) == {"context": "lab", "namespace": "people"}


def test_location_selects_the_backend_that_has_such_a_location() -> None:
    assert select_backend(None, {"context": None, "namespace": None}) == (None, None)
    assert select_backend("hosts", {"context": None}) == ("hosts", None)
    location = {"context": None, "namespace": "people"}
    assert select_backend(None, location) == ("kubernetes", location)
    assert select_backend("kubernetes", location) == ("kubernetes", location)
    with pytest.raises(SpecError, match=r"^--namespace: this is an option of kubernetes, .* local; leave it out"):
        select_backend("local", location)
    with pytest.raises(SpecError, match=r"--context, --namespace: these are options of kubernetes, .* leave them out"):
        select_backend("local", {"context": "lab", "namespace": "people"})


def test_local_backend_imports_no_heavy_library() -> None:
    code = "import sys; from farandole.backends.registry import get_backend; get_backend('local');"
    code += "print({'kubernetes', 'torch', 'mlflow', 'pyspark', 'horovod'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
