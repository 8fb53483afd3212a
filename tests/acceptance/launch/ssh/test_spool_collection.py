"""Collection of spools from real hosts."""

from __future__ import annotations

from pathlib import Path

from farandole.events import Event, ignore_event
from farandole.launch.ssh.spool_collection import collect_spools
from farandole.spec import Ssh
from farandole.tracking.run_link import pending_spools, spool_directory
from farandole.tracking.spool import Spool
from tests.support.netns import Network, network

__all__ = ["network"]


def _record(home: Path, name: str, value: int) -> None:
    """Record a metric and a file as a worker on that host does while MLflow is unreachable."""
    spool = Spool(spool_directory(home / "jobs" / "small-1", name))
    spool.append(
        {"op": "metrics", "points": [["x", value, 0, 0]], "file": spool.store_file("curve.png", b"\x89" * 100_000)}
    )
    spool.close()


def _values(directory: Path) -> dict[str, list[int]]:
    found = {}
    for path in pending_spools(directory):
        spool = Spool(path)
        found[path.name] = [entry.operation["points"][0][1] for entry in spool.peek(10)]
        kept = spool.peek(1)[0].operation["file"]
        assert (path / "files" / kept).read_bytes() == b"\x89" * 100_000
        spool.close()
    return found


def test_spools_of_all_hosts_are_moved_exactly_once(network: Network, tmp_path: Path) -> None:
    ssh, directory = Ssh(**network.ssh), tmp_path / "small-1"
    directory.mkdir()
    homes = {name: host.directory / "home" for name, host in network.hosts.items()}
    _record(homes["node1"], "rank-zero", 1)
    _record(homes["node2"], "rank-zero", 2)
    _record(homes["node2"], "node2", 3)
    moved = collect_spools(ssh, homes, directory, ignore_event)
    values = _values(directory)
    assert len(moved) == len(values) == 3
    assert sorted(value for (value,) in values.values()) == [1, 2, 3]
    assert values["node2"] == [3]
    for entry in moved:
        assert Path(entry.target).is_dir()
        assert not Path(entry.source).exists(), "the files of the host are visible here"
    assert collect_spools(ssh, homes, directory, ignore_event) == []


def test_silent_host_keeps_its_spools(network: Network, tmp_path: Path) -> None:
    ssh, directory = Ssh(**network.ssh, connect_timeout_s=1), tmp_path / "small-1"
    directory.mkdir()
    warnings: list[Event] = []
    _record(network.hosts["node3"].directory / "home", "rank-zero", 7)
    network.cut("node3")
    try:
        assert collect_spools(ssh, ["node3"], directory, warnings.append) == []
    finally:
        network.plug_in("node3")
    (warning,) = warnings
    assert "node3: records that MLflow has not received, if any, stay on this host (" in str(warning)
    assert not (directory / "tracking").exists()
    assert len(collect_spools(Ssh(**network.ssh), ["node3"], directory, ignore_event)) == 1
