"""Probes, metrics, models, docs."""

from __future__ import annotations

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import MODEL


def test_the_probes_say_ok(http: httpx.Client) -> None:
    assert http.get("/livez").status_code == 200
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["state"]) == (200, "ready")


def test_the_model_is_listed_under_its_full_name_and_found_under_each(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "smollm2:135m-instruct"
    assert client.models.retrieve(MODEL).id == MODEL


def test_metrics_are_valid_and_count(http: httpx.Client) -> None:
    def read() -> dict[str, float]:
        families = text_string_to_metric_families(http.get("/metrics").text)
        return {
            sample.name: sample.value for family in families for sample in family.samples if not sample.labels
        }

    before = read()
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": "Hi there", "max_tokens": 11})
    assert answer.status_code == 200
    after = read()
    assert after["openllm_generated_tokens_total"] - before["openllm_generated_tokens_total"] == 11
    first, next_ = "openllm_time_to_first_token_seconds_count", "openllm_inter_token_latency_seconds_count"
    assert after[first] - before[first] == 1
    assert after[next_] - before[next_] == 10
    assert after["openllm_sequences_running"] == 0
    assert after["openllm_ready"] == 1


def test_the_docs_describe_the_routes(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 200
    paths = http.get("/openapi.json").json()["paths"]
    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/livez",
        "/readyz",
        "/metrics",
    } <= paths.keys()
