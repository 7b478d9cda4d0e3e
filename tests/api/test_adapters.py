"""LoRA adapters through the API, on the real engine; and what a server answers that was not started for them."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.lora import ATTENTION, TINY, write_adapter, write_model
from tests.serving import Served, serving

MODEL = "tiny"
QUESTION = "Name a colour."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Path:
    root = tmp_path_factory.mktemp("lora")
    write_adapter(root / "sql", 1, shape=TINY)
    write_adapter(root / "fr", 2, shape=TINY, rank=4, modules=ATTENTION, scale=0.2)
    write_adapter(root / "later", 3, shape=TINY)
    write_adapter(root / "narrow", 4, shape=TINY._replace(hidden=32))
    write_adapter(root / "wide", 5, shape=TINY, rank=32, modules=ATTENTION)
    (root / "empty").mkdir()
    write_model(root / MODEL, smollm2_gguf)
    return root


@pytest.fixture(scope="module")
def adapted(folder: Path) -> Iterator[Served]:
    options = ("--dtype", "float32", "--kv-cache", "64MiB", "--concurrency", "16", "--threads", "1")
    adapters = ("--adapter", f"sql={folder}/sql", "--adapter", f"fr={folder}/fr")
    loading = ("--allow-adapter-loading", "--max-adapter-rank", "16", "--max-adapters", "4")
    with serving(f"{folder}/{MODEL}", "--backend", "vllm", *options, *adapters, *loading) as server:
        server.until_ready(240)
        yield server


def ask(served: Served, model: str) -> str:
    with served.client as client:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=12
        )
    assert answer.model == model
    return answer.choices[0].message.content or ""


def post(served: Served, route: str, **body: object) -> httpx.Response:
    with served.http() as http:
        return http.post(f"/v1/{route}_lora_adapter", json=body)


def names(served: Served) -> list[str]:
    with served.client as client:
        return [model.id for model in client.models.list()]


def test_the_model_field_chooses_and_requests_share_a_batch(adapted: Served) -> None:
    models = [MODEL, "sql", "fr"]
    alone = [ask(adapted, model) for model in models]
    assert len(set(alone)) == 3
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        together = list(pool.map(lambda model: ask(adapted, model), models * 3))
    assert together == alone * 3


def test_models_lists_the_model_and_its_adapters(adapted: Served, folder: Path) -> None:
    with adapted.http() as http:
        found = {each["id"]: each for each in http.get("/v1/models").json()["data"]}
        base, *others = found.values()
        assert (base["parent"], base["root"]) == (None, base["id"])
        assert [other["id"] for other in others] == ["sql", "fr"]
        assert found["sql"]["parent"] == base["id"]
        assert found["sql"]["root"] == f"{folder}/sql"
        assert http.get("/v1/models/fr").json() == found["fr"]


def test_one_is_loaded_used_and_unloaded_while_the_server_runs(adapted: Served, folder: Path) -> None:
    answer = post(adapted, "load", lora_name="later", lora_path=f"{folder}/later")
    assert answer.status_code == 200, answer.text
    assert names(adapted)[1:] == ["sql", "fr", "later"]
    assert ask(adapted, "later") not in {ask(adapted, "sql"), ask(adapted, MODEL)}
    assert post(adapted, "load", lora_name="later", lora_path=f"{folder}/later").status_code == 400
    assert post(adapted, "unload", lora_name="later").status_code == 200
    assert names(adapted)[1:] == ["sql", "fr"]
    with pytest.raises(openai.NotFoundError):
        ask(adapted, "later")
    assert post(adapted, "unload", lora_name="later").status_code == 404


def test_unloading_lets_running_answers_end(adapted: Served, folder: Path) -> None:
    assert post(adapted, "load", lora_name="later", lora_path=f"{folder}/later").status_code == 200
    body = {"model": "later", "prompt": "la la", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with adapted.http() as http, http.stream("POST", "/v1/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            unloading = pool.submit(post, adapted, "unload", lora_name="later")
            while "later" in names(adapted):
                time.sleep(0.01)
            with pytest.raises(openai.NotFoundError):
                ask(adapted, "later")
            rest = [line for line in lines if line.startswith("data:")]
            assert rest[-1] == "data: [DONE]"
            assert '"finish_reason":"length"' in rest[-2]
            assert unloading.result(30).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"lora_path": "narrow"}, 400, "width of 32"),
        ({"lora_path": "wide"}, 400, "--max-adapter-rank 32"),
        ({"lora_path": "empty"}, 400, "adapter_config.json"),
        ({"lora_path": "nowhere"}, 400, "nowhere"),
        ({"lora_name": MODEL}, 400, "own name"),
        ({"lora_name": "a b"}, 400, "name"),
        ({"lora_name": ""}, 400, "lora_name"),
        ({"load_inplace": True}, 400, "load_inplace"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_what_cannot_be_loaded_is_a_400_and_changes_nothing(
    adapted: Served, folder: Path, body: dict[str, object], status: int, said: str
) -> None:
    before = ask(adapted, "sql")
    path = f"{folder}/{body.get('lora_path', 'later')}"
    answer = post(adapted, "load", **{"lora_name": "new", **body, "lora_path": path})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert said in f"{error['message']} {error.get('param')}", answer.text
    assert names(adapted)[1:] == ["sql", "fr"]
    assert ask(adapted, "sql") == before


def test_a_new_runner_has_the_adapters_again_but_for_one_that_is_gone(adapted: Served, folder: Path) -> None:
    before = [ask(adapted, model) for model in (MODEL, "sql", "fr")]
    gone = write_adapter(folder / "gone", 6, shape=TINY)
    assert post(adapted, "load", lora_name="later", lora_path=f"{folder}/later").status_code == 200
    assert post(adapted, "load", lora_name="gone", lora_path=str(gone)).status_code == 200
    later = ask(adapted, "later")
    (gone / "adapter_config.json").unlink()
    adapted.runner().kill()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        after = list(pool.map(lambda model: ask(adapted, model), (MODEL, "sql", "fr", "later")))
    assert after == [*before, later]
    assert names(adapted)[1:] == ["sql", "fr", "later"]
    assert "the adapter gone is not served" in adapted.log
    assert post(adapted, "unload", lora_name="later").status_code == 200


def test_a_server_that_was_not_started_for_it(served: Served, folder: Path) -> None:
    for route in ("load", "unload"):
        body = {"lora_name": "sql", **({"lora_path": f"{folder}/sql"} if route == "load" else {})}
        answer = post(served, route, **body)
        assert answer.status_code == 403
        assert "--allow-adapter-loading" in answer.text
    with served.http() as http:
        model = http.get("/v1/models").json()["data"][0]
    assert (model["parent"], model["root"]) == (None, model["id"])


def test_an_adapter_that_only_the_engine_can_refuse_ends_the_first_start(folder: Path) -> None:
    wrong = write_adapter(folder / "inner", 7, shape=TINY._replace(inner=96))
    options = ("--dtype", "float32", "--kv-cache", "64MiB", "--threads", "1", "--adapter", f"sql={wrong}")
    server = Served((f"{folder}/{MODEL}", "--backend", "vllm", *options))
    assert server.process.wait(120) == 2
    server.join()
    assert "down_proj of 96 x 64; in this model it is 128 x 64" in server.log
