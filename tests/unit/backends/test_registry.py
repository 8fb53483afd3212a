from __future__ import annotations

import subprocess
import sys

import pytest

from farandole.backends.registry import get_backend, place_in
from farandole.errors import SpecError
from tests.support.queued import shell_job


def test_a_backend_is_found_by_its_name() -> None:
    assert get_backend("local").name == "local"
    with pytest.raises(SpecError, match=r"--backend: locla: there is no such backend; did you mean local\?"):
        get_backend("locla")
    with pytest.raises(SpecError, match="there are local, hosts, kubernetes"):
        get_backend("mainframe")


def test_only_a_cluster_has_a_place() -> None:
    assert place_in(shell_job()) == {}
    assert set(place_in(shell_job(backend={"use": "kubernetes"}))) == {"context", "namespace"}


def test_the_backend_local_needs_none_of_the_heavy_libraries() -> None:
    code = "import sys; from farandole.backends.registry import backend_named; backend_named('local');"
    code += "print({'kubernetes', 'torch', 'mlflow', 'pyspark', 'horovod'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
