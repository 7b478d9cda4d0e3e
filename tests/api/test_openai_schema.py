"""Our API beside OpenAI's own OpenAPI document: every parameter is taken or refused for a reason, and every answer has
the form that OpenAI says it has."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.schemas import Document
from tests.serving import MODEL

# Of OpenAI's parameters those that a route does not take, and why. "name: x" is a type or a value x that it does not.
_NO_AUDIO = "no model here speaks"
_OLD = "deprecated since 2023 for tools"
_FIXED = "there is one model, and one way that it is served"
_NO_BUILT_IN = "no tool runs here"
_CUT = "what does not fit is refused, not cut silently"
_NO_CONVERSATIONS = dict.fromkeys(
    ("conversation: object", "conversation: string"),
    "there are no conversations; previous_response_id goes on",
)
REFUSED: dict[str, dict[str, str]] = {
    "post /v1/chat/completions": {
        "audio": _NO_AUDIO,
        "modalities: audio": _NO_AUDIO,
        "function_call": _OLD,
        "functions": _OLD,
        "moderation": "there is no moderation model",
        "prediction": "no engine here checks a predicted answer",
        "prompt_cache_options": "the prefix cache has no options of a request",
        "prompt_cache_retention": "the prefix cache is the engine's memory",
        "service_tier: fast": _FIXED,
        "service_tier: flex": _FIXED,
        "service_tier: priority": _FIXED,
        "service_tier: scale": _FIXED,
        "store: other values": "chat completions are not stored",
        "verbosity": "no open model is trained to follow it",
        "web_search_options": "the server asks nobody else",
    },
    "post /v1/completions": {
        "prompt: null": "an empty prompt is no prompt",
        "suffix: other values": "no engine here fills in between",
    },
    "post /v1/responses": {
        "context_management": "nothing is compacted: what does not fit is refused",
        **_NO_CONVERSATIONS,
        "include: code_interpreter_call.outputs": _NO_BUILT_IN,
        "include: computer_call_output.output.image_url": _NO_BUILT_IN,
        "include: file_search_call.results": _NO_BUILT_IN,
        "include: web_search_call.action.sources": _NO_BUILT_IN,
        "include: web_search_call.results": _NO_BUILT_IN,
        "include: message.input_image.image_url": "input items are listed with their images anyway",
        "include: reasoning.encrypted_content": "reasoning is in the answer as it is",
        "moderation": "there is no moderation model",
        "prompt": "there are no stored prompts",
        "prompt_cache_options": "the prefix cache has no options of a request",
        "prompt_cache_retention: 24h": "the prefix cache is the engine's memory",
        "service_tier: fast": _FIXED,
        "service_tier: flex": _FIXED,
        "service_tier: priority": _FIXED,
        "service_tier: scale": _FIXED,
        "service_tier: ultrafast": _FIXED,
        "truncation: auto": _CUT,
    },
    "post /v1/responses/input_tokens": {
        **_NO_CONVERSATIONS,
        "input: null": "without input there is no prompt",
        "model: null": "the model decides how the prompt is cut into tokens",
        "personality": "no open model is trained to follow it",
        "truncation: auto": _CUT,
    },
    "post /v1/files": {
        "expires_after": "its two fields are documented as forms send them: expires_after[anchor] and [seconds]",
        "purpose: assistants": "there are no assistants",
        "purpose: evals": "there are no evals",
        "purpose: fine-tune": "nothing is trained here",
        "purpose: vision": "images go in messages",
    },
}
# What our answers have that OpenAI's schemas do not say. Nulls stand in OpenAI's own examples and real answers.
_BATCH_NULLS = (
    "model", "errors", "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at",
    "failed_at", "expired_at", "cancelling_at", "cancelled_at", "errors.data[].param",
)  # fmt: skip
_RESPONSE = ("store: more", "user: null", "usage: null")
KNOWN: dict[str, set[str]] = {
    "Response": {f"$.{name}" for name in _RESPONSE},
    **{
        f"Response{state}Event": {f"$.response.{name}" for name in _RESPONSE}
        for state in ("Created", "Queued", "InProgress", "Completed", "Incomplete", "Failed")
    },
    "OpenAIFile": {"$.expires_at: null"},
    "Batch": {f"$.{name}: null" for name in _BATCH_NULLS},
    "ListFilesResponse": {"$.data[].expires_at: null", "$.first_id: null", "$.last_id: null"},
    "ListBatchesResponse": {
        *(f"$.data[].{name}: null" for name in _BATCH_NULLS), "$.first_id: null", "$.last_id: null",
    },
    # One schema stands for whole answers and for chunks, which end only once.
    "CreateCompletionResponse": {"$.choices[].finish_reason: null", "$.usage: null"},
    "ListModelsResponse": {f"$.data[].{name}: more" for name in ("context_length", "root", "parent")},
    "Model": {f"$.{name}: more" for name in ("context_length", "root", "parent")},
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(shared_folder: Path) -> Document:
    return Document(json.loads((shared_folder / "openai" / "openapi.json").read_text()))


@pytest.fixture(scope="module")
def ours(http: httpx.Client) -> Document:
    return Document(http.get("/openapi.json").json())


def operations(ours: Document, theirs: Document) -> list[tuple[str, str]]:
    """(path, method) of what both have."""
    return [
        (path, method)
        for path, methods in ours.content["paths"].items()
        for method in methods
        if method in theirs.content["paths"].get(path.removeprefix("/v1"), {})
    ]


def refusals(ours: Document, theirs: Document, path: str, method: str) -> set[str]:
    """What OpenAI's route takes and ours does not, in the words of ``REFUSED``."""
    found = set()
    asked, taken = theirs.request(path.removeprefix("/v1"), method), ours.request(path, method)
    have = {} if taken is None else ours.properties(taken)
    for name, schema in ({} if asked is None else theirs.properties(asked)).items():
        if name not in have:
            found.add(name)
            continue
        lacking = theirs.types(schema) - ours.types(have[name])
        found |= {f"{name}: {kind}" for kind in lacking}
        wanted, values = theirs.values(schema), ours.values(have[name])
        if values is not None:
            more = ["other values"] if wanted is None else wanted - values
            found |= {f"{name}: {value}" for value in more}
    return found


def test_both_have_the_routes_that_matter(ours: Document, theirs: Document) -> None:
    assert {
        ("/v1/chat/completions", "post"), ("/v1/completions", "post"), ("/v1/models", "get"),
        ("/v1/embeddings", "post"),
        ("/v1/files", "post"), ("/v1/files", "get"), ("/v1/files/{file_id}", "get"),
        ("/v1/files/{file_id}", "delete"), ("/v1/files/{file_id}/content", "get"), ("/v1/batches", "post"),
        ("/v1/batches", "get"), ("/v1/batches/{batch_id}", "get"), ("/v1/batches/{batch_id}/cancel", "post"),
    } <= set(operations(ours, theirs))  # fmt: skip


def test_every_parameter_of_openais_is_taken_or_refused_for_a_reason(
    ours: Document, theirs: Document
) -> None:
    for path, method in operations(ours, theirs):
        known = REFUSED.get(f"{method} {path}", {})
        assert refusals(ours, theirs, path, method) - known.keys() == set(), f"{method} {path}"


def test_nothing_is_called_refused_that_is_taken(ours: Document, theirs: Document) -> None:
    for operation, known in REFUSED.items():
        method, path = operation.split()
        assert known.keys() - refusals(ours, theirs, path, method) == set(), operation
        assert all(known.values())


def test_every_query_parameter_of_openais_is_taken(ours: Document, theirs: Document) -> None:
    for path, method in operations(ours, theirs):
        if path.startswith(("/v1/files", "/v1/batches", "/v1/models")):
            wanted = theirs.query(path.removeprefix("/v1"), method)
            assert wanted.keys() - ours.query(path, method).keys() == set(), f"{method} {path}"


def test_our_document_is_whole(ours: Document) -> None:
    ids = []
    for path, methods in ours.content["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["tags"], where
            assert "422" not in operation["responses"], where
            error = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            form = "AnthropicErrorBody" if path.startswith("/v1/messages") else "ErrorBody"
            assert error == {"$ref": f"#/components/schemas/{form}"}, where
            for content in operation["responses"]["200"]["content"].values():
                assert content["schema"] not in ({}, {"type": "object", "additionalProperties": True}), where
            ids.append(operation["operationId"])
    assert len(set(ids)) == len(ids)


def same_form(theirs: Document, name: str, value: Any) -> None:
    assert theirs.differences(name, value) - KNOWN.get(name, set()) == set(), name


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "n": 2}
TEXT = {"model": MODEL, "prompt": ["Hello there", "Hi"], "max_tokens": 4}
RESPONSE = {"model": MODEL, "input": "Hello", "max_output_tokens": 4}
TURN = {"model": MODEL, "messages": CHAT["messages"]}


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", CHAT, "CreateChatCompletionResponse"),
        ("/v1/completions", TEXT, "CreateCompletionResponse"),
        ("/v1/responses", RESPONSE, "Response"),
        ("/v1/responses", {**RESPONSE, "max_output_tokens": 400}, "Response"),
        ("/v1/responses", {**RESPONSE, "background": True}, "Response"),
        ("/v1/responses/input_tokens", {"model": MODEL, "input": "Hello"}, "TokenCountsResource"),
    ],
)
def test_whole_answers(http: httpx.Client, theirs: Document, path: str, body: Any, name: str) -> None:
    same_form(theirs, name, http.post(path, json=body).raise_for_status().json())


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", CHAT, "CreateChatCompletionStreamResponse"),
        ("/v1/completions", TEXT, "CreateCompletionResponse"),
    ],
)
def test_chunks(http: httpx.Client, theirs: Document, path: str, body: Any, name: str) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text = http.post(path, json={**body, **options}).raise_for_status().text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    assert len(events) > 8
    for event in events:
        same_form(theirs, name, json.loads(event))


@pytest.mark.parametrize("more", [{}, {"max_output_tokens": 400}, {"background": True}])
def test_events_of_a_response(http: httpx.Client, theirs: Document, more: dict[str, Any]) -> None:
    names = event_schemas(theirs)
    text = http.post("/v1/responses", json={**RESPONSE, **more, "stream": True}).raise_for_status().text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line[:5] == "data:"]
    assert len(events) > 8
    for event in events:
        same_form(theirs, names[event["type"]], event)


def event_schemas(theirs: Document) -> dict[str, str]:
    """The name of the schema of each type of events."""
    found = {}
    for each in theirs.content["components"]["schemas"]["ResponseStreamEvent"]["anyOf"]:
        for kind in theirs.values(theirs.properties(each)["type"]) or ():
            found[kind] = each["$ref"].rpartition("/")[2]
    return found


def test_input_items(http: httpx.Client, theirs: Document, ours: Document) -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "4"}
    said: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        call,
        output,
    ]
    identifier = http.post("/v1/responses", json={**RESPONSE, "input": said}).raise_for_status().json()["id"]
    items = http.get(f"/v1/responses/{identifier}/input_items").raise_for_status().json()
    assert len(items["data"]) == len(said)
    same_form(theirs, "ResponseItemList", items)
    assert ours.differences("InputItemList", items) == set()


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", CHAT, "ChatCompletion"),
        ("/v1/completions", TEXT, "Completion"),
        ("/v1/responses", RESPONSE, "ResponseObject"),
        ("/v1/responses", {**RESPONSE, "background": True}, "ResponseObject"),
        ("/v1/responses/input_tokens", {"model": MODEL, "input": "Hello"}, "InputTokens"),
        ("/v1/messages", {**TURN, "max_tokens": 4}, "MessageObject"),
        ("/v1/messages", TURN, "AnthropicErrorBody"),
        ("/v1/messages/count_tokens", TURN, "TokenCount"),
    ],
)
def test_our_document_tells_all_of_an_answer(
    http: httpx.Client, ours: Document, path: str, body: Any, name: str
) -> None:
    assert ours.differences(name, http.post(path, json=body).json()) == set()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_fixed_route_is_not_taken_for_an_id(http: httpx.Client, method: str) -> None:
    answer = http.request(method, "/v1/responses/input_tokens")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert http.request("GET", "/v1/responses/input_tokens_").status_code == 404


def test_models(http: httpx.Client, theirs: Document) -> None:
    same_form(theirs, "ListModelsResponse", http.get("/v1/models").json())
    same_form(theirs, "Model", http.get(f"/v1/models/{MODEL}").json())


def test_errors(http: httpx.Client, theirs: Document) -> None:
    refused = http.post("/v1/completions", json={**TEXT, "temperature": 9})
    for answer in (refused, http.get("/v1/files/none"), http.get("/v1/none"), http.delete("/v1/models")):
        assert answer.is_client_error
        same_form(theirs, "ErrorResponse", answer.json())


def test_files_and_batches(http: httpx.Client, theirs: Document) -> None:
    same_form(theirs, "ListFilesResponse", http.get("/v1/files").json())
    same_form(theirs, "ListBatchesResponse", http.get("/v1/batches").json())
    good = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {**TEXT, "prompt": "Hi"}}
    for line, end in ((good, "completed"), ({**good, "method": "GET"}, "failed")):
        form = {"file": ("in.jsonl", json.dumps(line)), "purpose": (None, "batch")}
        file = http.post("/v1/files", files=form).raise_for_status().json()
        same_form(theirs, "OpenAIFile", file)
        same_form(theirs, "OpenAIFile", http.get(f"/v1/files/{file['id']}").json())
        body = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = http.post("/v1/batches", json=body).raise_for_status().json()
        while batch["status"] != end:
            same_form(theirs, "Batch", batch)
            time.sleep(0.02)
            batch = http.get(f"/v1/batches/{batch['id']}").json()
        same_form(theirs, "Batch", batch)
        same_form(theirs, "DeleteFileResponse", http.delete(f"/v1/files/{file['id']}").json())
    same_form(theirs, "ListBatchesResponse", http.get("/v1/batches").json())
    same_form(theirs, "ListFilesResponse", http.get("/v1/files").json())
