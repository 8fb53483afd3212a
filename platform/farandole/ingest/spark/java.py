"""Check of the Java installation that Spark would start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from farandole.errors import UnavailableError

MIN_JAVA = 17


def require_java() -> str:
    """Check that Java 17 or newer is installed.

    Returns:
        The first line of `java -version`.

    Raises:
        UnavailableError: There is no Java, or it is older.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    remedy = "install a JDK, for example `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
    if not java or not Path(java).exists():
        where = f"JAVA_HOME is {home}, which has no bin/java" if home else "there is no `java` on the PATH"
        raise UnavailableError(f"Spark needs Java {MIN_JAVA} or newer: {where}; {remedy}")
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError as error:
        output = str(error)
    version = re.search(r'version "(\d+)', output)
    if version is None or int(version[1]) < MIN_JAVA:
        found = output.splitlines()[0] if output else "nothing"
        raise UnavailableError(f"Spark needs Java {MIN_JAVA} or newer: {java} reports {found}; {remedy}")
    return output.splitlines()[0]
