"""Random bodies for the prediction service, guided by coverage: `python -m tests.support.fuzz_service TARGET FOLDER`.

The whole application of a worker runs in this process, without network: a body is read, its rows are converted, and
the network computes them. Whatever the body, the answer must be a prediction or an error that the service means.
libFuzzer writes a body for which that is not so to FOLDER, and ends with an exit code other than 0; so it does after a
body that takes longer than `-timeout` or more memory than `-rss_limit_mb`. Further arguments are libFuzzer's own:
`-runs=1000`, `-seed=1`, `-max_total_time=600`, or a file that it has written, which is tried again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import atheris

with atheris.instrument_imports(include=["farandole"], enable_loader_override=False):
    from farandole.serving.service.app import make_app
    from farandole.serving.service.endpoints import Endpoints
    from farandole.serving.service.metrics import Metrics
    from farandole.serving.service.settings import Deployment, RequestLimits, ServiceSettings, Variant
    from farandole.serving.service.table import ModelTable
    from tests.support import fuzz_bodies
    from tests.support.page_models import page_models, write_model
    from tests.support.served import make_query_bundle

if TYPE_CHECKING:
    from farandole.serving.service.guard import Guard

JSON = "application/json"
STREAM = "application/vnd.apache.arrow.stream"
MODELS = ["mixed", "sources"]
"""A model with every kind of raw column, and one whose rows pass through a query."""
EXPECTED = frozenset({200, 400, 413, 415, 422})
KINDS = frozenset({"bad_request", "too_large", "media_type", "invalid_rows", "not_explained"})
LIMITS = ("-timeout=300", "-report_slow_units=300", "-rss_limit_mb=3072", "-max_len=20000", "-detect_leaks=0")
Body = tuple[str, str, bytes]
"""Path, media type and bytes of a request."""
Data: TypeAlias = atheris.FuzzedDataProvider


class StrictLog:
    """A log in which no error of the service itself may be written."""

    def write(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Raise an error, with the unexpected one as its context."""
        if level == "error":
            raise AssertionError(f"{event}: {fields}")

    def request(self, **fields: Any) -> None:
        """Take a line about a request."""


class Service:
    """The application of a worker, asked without network.

    Args:
        folder: Where its bundles are, or are written.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True)
            write_model(folder / MODELS[0], MODELS[0], page_models()["mixed"])
            make_query_bundle(folder / MODELS[1])
        self._loop = asyncio.new_event_loop()
        self._apps = [self._run(self._open(folder, policy)) for policy in ("refuse", "missing")]

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    async def _open(self, folder: Path, policy: Any) -> Guard:
        limits = RequestLimits(max_body_bytes=2**17, max_rows=100, max_columns=100)
        settings = ServiceSettings(is_open=True, compute_in="loop", limits=limits, not_a_number=policy)
        log: Any = StrictLog()
        metrics = Metrics()
        table = ModelTable(settings, metrics, log, folder)  # with counts of drift
        variants = {name: (Variant("newest", name, str(folder / name), "1", 1.0),) for name in MODELS}
        await table.apply(Deployment(0, variants))
        return make_app(Endpoints(settings, table, None, metrics, log))

    def ask(self, policy: int, path: str, media_type: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to a POST.

        Args:
            policy: 0: NaN is refused; 1: it means a missing value.
            path: The path, with its query.
            media_type: The type of the body.
            body: The body.
        """
        route, _, query = path.partition("?")
        headers = [(b"content-type", media_type.encode())]
        scope = {"type": "http", "method": "POST", "path": route, "raw_path": route.encode(), "headers": headers}
        scope |= {"query_string": query.encode(), "root_path": "", "http_version": "1.1", "scheme": "http"}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        self._run(self._apps[policy](scope, receive, send))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def check(status: int, answer: bytes) -> None:
    """Check that an answer is a prediction, or an error that the service means."""
    document = json.loads(answer)
    assert status in EXPECTED, (status, document)
    assert status == 200 or (document["error"] and document["kind"] in KINDS), (status, document)


# Targets ---------------------------------------------------------------------------------------------------------
# A provider takes its numbers from the end of the bytes, and its bytes from their start.


def _json(data: Data) -> Body:
    return f"/predict?model={data.PickValueInList(MODELS)}", JSON, data.ConsumeBytes(data.remaining_bytes())


def _arrow(data: Data) -> Body:
    return f"/predict?model={data.PickValueInList(MODELS)}", STREAM, data.ConsumeBytes(data.remaining_bytes())


def _tensors(data: Data) -> Body:
    return f"/v2/models/{data.PickValueInList(MODELS)}/infer", JSON, data.ConsumeBytes(data.remaining_bytes())


def _image(data: Data) -> Body:
    row = fuzz_bodies.columns_of("mixed")
    row["picture"] = base64.b64encode(data.ConsumeBytes(data.remaining_bytes())).decode()
    return "/predict?model=mixed", JSON, json.dumps({"rows": [row]}).encode()


def _made_rows(data: Data) -> Body:
    model = data.PickValueInList(MODELS)
    return f"/predict?model={model}", JSON, json.dumps(fuzz_bodies.make_rows(data, model)).encode()


def _made_tensors(data: Data) -> Body:
    model = data.PickValueInList(MODELS)
    return f"/v2/models/{model}/infer", JSON, json.dumps(fuzz_bodies.make_tensors(data, model)).encode()


def _made_tables(data: Data) -> Body:
    model, is_file = data.PickValueInList(MODELS), data.ConsumeBool()
    body = fuzz_bodies.arrow_bytes(fuzz_bodies.make_table(data, model), is_file=is_file)
    return f"/predict?model={model}", STREAM, body


def _explained(data: Data) -> Body:
    _, media_type, body = _made_rows(data)
    return f"/explain?target={data.PickValueInList(['no', 'x', ''])}", media_type, body


def _choices(model: str) -> list[bytes]:
    """Return bytes that decide how a body is put together."""
    return [random.Random(number).randbytes(400) for number in range(4)]


TARGETS: dict[str, tuple[Callable[[Data], Body], Callable[[str], list[bytes]]]] = {
    "json": (_json, fuzz_bodies.row_seeds),
    "tensors": (_tensors, fuzz_bodies.tensor_seeds),
    "arrow": (_arrow, fuzz_bodies.arrow_seeds),
    "image": (_image, lambda _: fuzz_bodies.image_seeds()),
    "made-rows": (_made_rows, _choices),
    "made-tensors": (_made_tensors, _choices),
    "made-tables": (_made_tables, _choices),
    "explained": (_explained, _choices),
}
"""Conversion of the fuzzer's bytes to a request, and good bytes to begin with."""


def write_seeds(target: str, folder: Path) -> None:
    """Write the bodies to begin with, each for both models and both policies."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = TARGETS[target][1]
    for number, model in enumerate(MODELS):
        for index, body in enumerate(seeds(model)):
            (folder / f"{model}-{index}").write_bytes(body + bytes([number, index % 2]))


def main() -> None:
    """Fuzz a target."""
    target, folder, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    make = TARGETS[target][0]
    corpus = folder / f"corpus-{target}"
    write_seeds(target, corpus)
    service = Service(folder / "bundles")

    def run(content: bytes) -> None:
        data = Data(content)
        policy = data.ConsumeIntInRange(0, 1)
        check(*service.ask(policy, *make(data)))

    atheris.Setup([sys.argv[0], *LIMITS, f"-artifact_prefix={folder}/{target}-", *options, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
