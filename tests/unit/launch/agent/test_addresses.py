"""Addresses of a host, from the environment of its SSH connection."""

from __future__ import annotations

import pytest

from farandole.launch.agent.addresses import interface_of, launcher_address, own_address


@pytest.mark.parametrize(
    ("connection", "launcher", "own"),
    [
        ("10.0.0.9 50000 10.0.0.1 22", "10.0.0.9", "10.0.0.1"),
        ("::ffff:10.0.0.9 50000 ::ffff:10.0.0.1 22", "10.0.0.9", "10.0.0.1"),
        ("fe80::1 50000 fe80::2 22", "fe80::1", "fe80::2"),
        ("", None, None),
    ],
)
def test_addresses_are_those_of_the_ssh_connection(
    connection: str, launcher: str | None, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", connection)
    assert (launcher_address(), own_address()) == (launcher, own)


def test_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None
