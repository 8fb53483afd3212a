from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from farandole.serving.service.traces import ENDPOINTS, Tracer, configured_tracer


def test_span_continues_the_callers_trace() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    span = tracer.start("predict", [(b"traceparent", f"00-{trace_id}-b7ad6b7169203331-01".encode())])
    span.set_attributes({"farandole.model": "flights"})
    span.end()
    tracer.close()
    (found,) = exporter.get_finished_spans()
    assert format(found.context.trace_id, "032x") == trace_id
    assert (found.name, dict(found.attributes or {})) == ("predict", {"farandole.model": "flights"})


@pytest.mark.parametrize("value", ["no", "00-zz-zz-01", ""])
def test_wrong_parent_begins_a_new_trace(value: str) -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    tracer.start("predict", [(b"traceparent", value.encode())]).end()
    tracer.close()
    assert len(exporter.get_finished_spans()) == 1


def test_traces_are_made_only_where_an_endpoint_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert configured_tracer() is None
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9")
    assert configured_tracer() is not None
