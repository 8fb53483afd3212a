"""Fixtures: a real S3 server (SeaweedFS), and a proxy before it that injects faults.

`tests/conftest.py` loads them. The server ends with the test run. Each test gets its own folder in the one bucket, and
the standard environment variables that lead there.
"""

from __future__ import annotations

import http.client
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyarrow import fs

from farandole.process.parent_death import signal_on_parent_death
from tests.support.ports import free_ports

BUCKET = "farandole"
ACCESS_KEY, SECRET_KEY = "tester", "a-secret-of-the-tests"
_START_S = 120


@dataclass(frozen=True)
class ObjectStore:
    """The server.

    Args:
        port: Where it listens on this machine.
    """

    port: int

    @property
    def files(self) -> fs.S3FileSystem:
        """The server without Farandole and without the proxy."""
        return fs.S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )


@dataclass(frozen=True)
class Folder:
    """A folder for one test.

    Args:
        uri: `s3://BUCKET/FOLDER`.
        files: The server itself.
    """

    uri: str
    files: fs.S3FileSystem

    @property
    def path(self) -> str:
        """The folder as pyarrow takes it."""
        return self.uri.removeprefix("s3://")

    def put(self, name: str, content: bytes) -> str:
        """Write an object; returns its URI."""
        with self.files.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)
        return f"{self.uri}/{name}"

    def get(self, name: str) -> bytes:
        """Read an object."""
        with self.files.open_input_stream(f"{self.path}/{name}") as stream:
            return bytes(stream.read())

    def put_all(self, directory: Path) -> None:
        """Write all files of a local directory."""
        for path in (path for path in directory.rglob("*") if path.is_file()):
            self.put(path.relative_to(directory).as_posix(), path.read_bytes())

    def names(self) -> list[str]:
        """All objects, relative to the folder."""
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        found = self.files.get_file_info(selector)
        return sorted(i.path.removeprefix(f"{self.path}/") for i in found if i.type == fs.FileType.File)


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Provide the server, for the whole test run."""
    directory = tmp_path_factory.mktemp("weed")
    (directory / "data").mkdir()
    identity = {
        "name": "tester",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    parts = ("master", "volume", "filer", "s3")
    ports = iter(free_ports(2 * len(parts)))
    chosen = {f"{part}.port{kind}": next(ports) for part in parts for kind in ("", ".grpc")}
    command = [str(Path(sys.executable).with_name("weed")), "server", "-filer", "-s3", f"-dir={directory / 'data'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.volumeSizeLimitMB=64"]
    command += [
        "-volume.max=0",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
    ]
    command += [f"-s3.config={directory / 's3.json'}", *(f"-{name}={port}" for name, port in chosen.items())]
    command += [f"-{part}.localSocket={directory / part}.sock" for part in ("filer", "s3")]
    with (directory / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, preexec_fn=lambda: signal_on_parent_death(signal.SIGKILL), cwd=directory
        )
    try:
        store = ObjectStore(chosen["s3.port"])
        _wait_until_it_writes(store, process, directory / "weed.log")
        yield store
    finally:
        process.kill()  # asked to end, it would wait ten seconds for its peers; its data go with the test run
        process.wait()
        for part in parts:  # killed, it leaves them, and no option says where they are
            Path(f"/tmp/seaweedfs-{part}-grpc-{chosen[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)


@pytest.fixture
def s3(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Provide an empty folder, and the environment variables that lead to it."""
    _enter(monkeypatch, object_store.port)
    return Folder(f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}", object_store.files)


@pytest.fixture
def proxy(s3: Folder, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Provide a proxy to which the environment variables lead; the methods of `Folder` bypass it."""
    with FaultyProxy(object_store.port) as proxy:
        _enter(monkeypatch, proxy.port)
        yield proxy


def _enter(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


def _wait_until_it_writes(store: ObjectStore, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", store.port), timeout=1):
                store.files.create_dir(BUCKET)
            with store.files.open_output_stream(f"{BUCKET}/ready") as stream:
                stream.write(b"yes")
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.2)


# The proxy --------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """A fault of some answers.

    Args:
        kind: `500`, `503`: this status instead. `refuse`: no answer. `cut`: half of the body, then the connection ends.
            `short`: half of the body as if it were complete. `flip`: one bit of the body is inverted. `slow`: the body
            arrives in small pieces.
        times: The number of answers; None: all.
        method: Only answers to this method.
        path: Only answers for URLs that contain this.
    """

    kind: str
    times: int | None = None
    method: str = ""
    path: str = ""


@dataclass
class FaultyProxy:
    """Proxy that passes requests on to the server, and injects faults.

    Args:
        upstream: The server's port.
    """

    upstream: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    broken: int = 0
    before: Callable[[str, str], None] | None = None

    def __enter__(self) -> FaultyProxy:
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering: the server is unreachable from now on."""
        self._server.shutdown()
        self._server.server_close()

    def inject(self, kind: str, times: int | None = None, *, method: str = "", path: str = "") -> None:
        """Inject a fault into the next answers to matching requests."""
        self.faults.append(Fault(kind, times, method, path))

    def count(self, method: str, path: str = "") -> int:
        """Return the number of matching requests."""
        return sum(seen == method and path in url for seen, url in self.requests)

    def seen(self, method: str, url: str) -> str | None:
        """Count a request, and return the fault of its answer."""
        with self._lock:
            self.requests.append((method, url))
            for fault in self.faults:
                if fault.times != 0 and fault.method in ("", method) and fault.path in url:
                    if fault.times is not None:
                        fault.times -= 1
                    self.broken += 1
                    return fault.kind
        return None


def _handler(proxy: FaultyProxy) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            chunked = self.headers.get("Transfer-Encoding") == "chunked"
            body = b"".join(self._chunks()) if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.seen(self.command, self.path)
            if proxy.before is not None:
                proxy.before(self.command, self.path)
            if fault == "refuse":
                self.close_connection = True
                return
            if fault in ("500", "503"):
                self._answer(int(fault), {"Content-Type": "application/xml"}, b"")
                return
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
            try:
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":
                        upstream.putheader(name, value)
                upstream.endheaders(body, encode_chunked=chunked)
                answer = upstream.getresponse()
                headers = dict(answer.getheaders())
                content = answer.read()
            finally:
                upstream.close()
            self._answer(answer.status, headers, *_broken(fault, content), slowly=fault == "slow")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def _answer(
            self, status: int, headers: dict[str, str], sent: bytes, length: int | None = None, slowly: bool = False
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            of_get = headers.get("Content-Length", "0") if self.command == "HEAD" else None
            self.send_header("Content-Length", of_get or str(len(sent) if length is None else length))
            self.end_headers()
            if self.command == "HEAD":
                return
            piece = max(1, len(sent) // 20 if slowly else len(sent))
            for start in range(0, len(sent), piece):
                self.wfile.write(sent[start : start + piece])
                if slowly:
                    time.sleep(0.02)
            self.close_connection = length is not None

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the tests read `requests`."""

    return Handler


def _broken(fault: str | None, content: bytes) -> tuple[bytes, int | None]:
    """Return the part of a body that is sent, and the announced length."""
    half = content[: len(content) // 2]
    if fault == "cut":
        return half, len(content)
    if fault == "short":
        return half, None
    if fault == "flip" and content:
        place = len(content) // 2
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :], None
    return content, None
