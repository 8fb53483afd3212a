from __future__ import annotations

import subprocess
from pathlib import Path

from farandole.backends.kubernetes.manifests import SshKeys


def test_openssh_reads_both_key_pairs(tmp_path: Path) -> None:
    keys = SshKeys.generate()
    pairs = {"user": (keys.user_private, keys.user_public), "host": (keys.host_private, keys.host_public)}
    for name, (private, public) in pairs.items():
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(private)
        derived = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True)
        assert derived.stdout.split()[:2] == public.split()[:2]


def test_generated_keys_are_unique() -> None:
    first, second = SshKeys.generate(), SshKeys.generate()
    assert len({first.user_public, first.host_public, second.user_public, second.host_public}) == 4
