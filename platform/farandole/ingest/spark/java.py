"""The Java that Spark would start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from farandole.errors import UnavailableError

MIN_JAVA = 17


def require_java() -> str:
    """Check that a Java of at least version 17 answers; returns what it says of itself.

    Raises:
        EnvironmentLacking: It does not.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    remedy = "install a JDK, for example `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
    if not java or not Path(java).exists():
        where = f"JAVA_HOME is {home}, which holds no bin/java" if home else "there is no `java` on the PATH"
        raise UnavailableError(f"Spark needs Java {MIN_JAVA} or newer: {where}; {remedy}")
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError as error:
        said = str(error)
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < MIN_JAVA:
        found = said.splitlines()[0] if said else "nothing"
        raise UnavailableError(f"Spark needs Java {MIN_JAVA} or newer: {java} says {found}; {remedy}")
    return said.splitlines()[0]
