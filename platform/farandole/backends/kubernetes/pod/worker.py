"""A worker's pod: an SSH server of the user's own, under which the launcher starts workers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from farandole.backends.kubernetes.manifests.pods import SSH_MOUNT

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
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
# A launcher that was lost must not leave workers behind that go on training.
ClientAliveInterval 5
ClientAliveCountMax 3
LogLevel INFO
"""


def main() -> None:
    """Become the server."""
    server = shutil.which("sshd", path=_PLACES)
    if server is None:
        print("farandole: sshd: is not in this image; build it from k8s/images/train", file=sys.stderr)
        sys.exit(3)
    folder = Path.home() / ".sshd"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = private_copy(host_key(Path(SSH_MOUNT)), folder / "host_key")
    settings = folder / "sshd_config"
    port = os.environ.get("FARANDOLE_SSH_PORT", "2222")
    settings.write_text(_SETTINGS.format(port=port, key=key, mount=SSH_MOUNT), encoding="utf-8")
    os.execv(server, [server, "-D", "-e", "-f", str(settings)])


def host_key(mount: Path) -> Path:
    """The server's own key; where an operator made the keys, the only one that there is."""
    own = mount / "host_key"
    return own if own.exists() else mount / "id_rsa"


def private_copy(source: Path, target: Path) -> Path:
    """A copy that only this user may read: SSH wants no other reader of a key."""
    target.unlink(missing_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())
    return target


if __name__ == "__main__":
    main()
