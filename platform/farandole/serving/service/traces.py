"""OpenTelemetry traces of requests, where an endpoint for them is configured."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span(Protocol):
    """A span of OpenTelemetry, of which a service needs this."""

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        """Add attributes."""

    def end(self) -> None:
        """End the span."""


class Tracer:
    """Spans of requests, exported in the background by OTLP over HTTP.

    Args:
        exporter: Where spans are sent. Default: the endpoint that the environment names.
    """

    def __init__(self, exporter: Any = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        name = os.environ.get("OTEL_SERVICE_NAME", "farandole")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("farandole.serving")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Span:
        """Start the span of a request; a `traceparent` header makes it part of the caller's trace."""
        from opentelemetry.trace import SpanKind

        carrier = {
            key.decode("latin-1"): value.decode("latin-1")
            for key, value in headers
            if key in (b"traceparent", b"tracestate")
        }
        context = self._propagator.extract(carrier) if carrier else None
        return self._tracer.start_span(name, context=context, kind=SpanKind.SERVER)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def configured_tracer() -> Tracer | None:
    """Return a tracer if the environment names an endpoint."""
    return Tracer() if any(os.environ.get(name) for name in ENDPOINTS) else None
