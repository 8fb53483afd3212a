"""First process of a worker's pod: an unprivileged SSH server, through which the launcher starts workers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from farandole.backends.kubernetes.manifests.pods import SSH_MOUNT

_SEARCH_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_SETTINGS = """\
Port {port}
HostKey {key}
PidFile none
UsePAM no
# The files come from a Secret, whose owner is not this user.
StrictModes no
AuthorizedKeysFile {mount}/authorized_keys
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTTY no
PrintMotd no
MaxStartups 128:30:512
MaxSessions 128
# A lost launcher must not leave workers behind that continue to train.
ClientAliveInterval 5
ClientAliveCountMax 3
LogLevel INFO
"""


def main() -> None:
    """Become the server."""
    server = shutil.which("sshd", path=_SEARCH_PATH)
    if server is None:
        print("farandole: sshd: not found in this image; build the image from k8s/images/train", file=sys.stderr)
        sys.exit(3)
    folder = Path.home() / ".sshd"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = private_copy(host_key(Path(SSH_MOUNT)), folder / "host_key")
    settings = folder / "sshd_config"
    port = os.environ.get("FARANDOLE_SSH_PORT", "2222")
    settings.write_text(_SETTINGS.format(port=port, key=key, mount=SSH_MOUNT), encoding="utf-8")
    os.execv(server, [server, "-D", "-e", "-f", str(settings)])


def host_key(mount: Path) -> Path:
    """Return the server's key: the job's host key, or the only key of an operator's Secret."""
    own = mount / "host_key"
    return own if own.exists() else mount / "id_rsa"


def private_copy(source: Path, target: Path) -> Path:
    """Copy a key to a file that only this user may read, as SSH requires; return the copy."""
    target.unlink(missing_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())
    return target


if __name__ == "__main__":
    main()
