"""Spans, as a receiver of OpenTelemetry's own protocol gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.serving import MODEL, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver:
    """An OTLP/HTTP receiver on the loopback interface."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        receiver.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_request_is_a_span_of_its_callers_trace(receiver: Receiver) -> None:
    with serving(MODEL, "--backend", "echo", "--otel-endpoint", receiver.url) as server:
        server.until_ready()
        body = {"model": MODEL, "prompt": "la la", "max_tokens": 3, "stream": True}
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
        httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=30)
        assert server.stop() == 0  # what is left is sent at the end
    assert [span.name for span in receiver.spans] == ["POST /v1/completions"]
    span = receiver.spans[0]
    assert span.trace_id.hex() == TRACE
    told = attributes(span)
    assert told["gen_ai.operation.name"] == "text_completion"
    assert told["gen_ai.request.id"] == "mine"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (2, 3)
    assert told["http.response.status_code"] == 200
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    assert 0 < told["gen_ai.latency.time_to_first_token"] <= seconds
    assert told["gen_ai.latency.time_in_queue"] >= 0
