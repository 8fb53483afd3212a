from __future__ import annotations

import subprocess
import sys


def test_runner_imports_no_library_that_delays_its_start() -> None:
    """`submit` waits until the runner has forked."""
    code = "import sys, farandole.backends.local.runner;"
    code += "print({'pydantic', 'yaml', 'numpy', 'pyarrow', 'torch', 'mlflow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
