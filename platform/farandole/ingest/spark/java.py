"""Check of the Java installation that Spark would start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from farandole.errors import UnavailableError

MIN_JAVA = 17
REMEDY = "install a JDK, for example `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"


def require_java() -> str:
    """Check that Java 17 or newer is installed.

    Returns:
        The first line of `java -version`.

    Raises:
        UnavailableError: There is no Java, or it is older.
    """
    is_usable, found = probe_java()
    if not is_usable:
        raise UnavailableError(f"{found}; {REMEDY}")
    return found


def probe_java() -> tuple[bool, str]:
    """Look for Java 17 or newer.

    Returns:
        Whether it is installed; and the first line of `java -version`, or the problem.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if not java or not Path(java).exists():
        problem = f"JAVA_HOME is {home}, which has no bin/java" if home else "there is no `java` on the PATH"
        return False, f"Spark needs Java {MIN_JAVA} or newer: {problem}"
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError as error:
        output = str(error)
    version = re.search(r'version "(\d+)', output)
    found = output.splitlines()[0] if output else "nothing"
    if version is None or int(version[1]) < MIN_JAVA:
        return False, f"Spark needs Java {MIN_JAVA} or newer: {java} reports {found}"
    return True, found
