"""A span for each request, in OpenTelemetry's words for generative AI. Imports OpenTelemetry, which is an extra.

https://opentelemetry.io/docs/specs/semconv/gen-ai/. The times within a request have no standard names yet; these are
the ones that vLLM gives them.
"""

from __future__ import annotations

from openllm.api.access_log import finishes, first_token_at
from openllm.api.exchange import Exchange
from openllm.errors import EngineMissing

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise EngineMissing(
        "Traces need OpenTelemetry, which is not installed.", hint="pip install 'openllm[otel]'"
    ) from error

_NANO = 1_000_000_000
_OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}
_PROBES = frozenset(("/livez", "/readyz", "/metrics"))


class Tracer:
    """Sends spans to ``endpoint``, in batches, from a thread of its own."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "openllm"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("openllm")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def to(cls, endpoint: str) -> Tracer:
        """``endpoint`` is the base address of an OTLP/HTTP receiver, as in OTEL_EXPORTER_OTLP_ENDPOINT."""
        return cls(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces"))

    def responded(self, exchange: Exchange) -> None:
        """Write the span of a request that is over. Probes have none."""
        if exchange.path in _PROBES:
            return
        assert exchange.ended is not None
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in exchange.headers
            if name in (b"traceparent", b"tracestate")
        }
        began = int(exchange.began_at * _NANO)
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.route}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=began,
        )
        self._describe(span, exchange)
        span.end(began + int((exchange.ended - exchange.began) * _NANO))

    def close(self) -> None:
        """Send what is left. Blocks, for seconds if the receiver is not there."""
        self._provider.shutdown()

    def _describe(self, span: Span, exchange: Exchange) -> None:
        span.set_attribute("http.request.method", exchange.method)
        span.set_attribute("http.route", exchange.route)
        span.set_attribute("http.response.status_code", exchange.status)
        span.set_attribute("gen_ai.request.id", exchange.id)
        if exchange.caller.name:
            span.set_attribute("enduser.id", exchange.caller.name)
        if exchange.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if exchange.submissions:
            self._describe_generation(span, exchange)

    def _describe_generation(self, span: Span, exchange: Exchange) -> None:
        prompt_tokens, answer_tokens = exchange.used()
        span.set_attribute("gen_ai.operation.name", _OPERATIONS.get(exchange.route, "chat"))
        span.set_attribute("gen_ai.provider.name", "openllm")
        span.set_attribute("gen_ai.request.model", exchange.model)
        span.set_attribute("gen_ai.usage.input_tokens", prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", answer_tokens)
        span.set_attribute("gen_ai.response.finish_reasons", finishes(exchange))
        first = exchange.submissions[0]
        token_at = first_token_at(exchange)
        if first.dispatched_at is None:
            return
        span.set_attribute("gen_ai.latency.time_in_queue", first.dispatched_at - first.submitted_at)
        if token_at is None or exchange.ended is None:
            return
        span.set_attribute("gen_ai.latency.time_to_first_token", token_at - exchange.began)
        span.set_attribute("gen_ai.latency.time_in_model_prefill", token_at - first.dispatched_at)
        span.set_attribute("gen_ai.latency.time_in_model_decode", exchange.ended - token_at)
        span.set_attribute("gen_ai.latency.e2e", exchange.ended - exchange.began)
