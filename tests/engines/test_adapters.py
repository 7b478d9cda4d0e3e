"""LoRA adapters in vLLM: the text of PEFT, several in one batch, and an engine that a bad adapter does not harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from safetensors.numpy import load_file, save_file

from openllm.engines.base import AdapterFiles, EngineConfig, Generation
from openllm.errors import InvalidAdapter, ModelNotServed, OpenLLMError
from tests.engines.child import Child, EngineChild, generation
from tests.engines.conftest import EXACT, Start
from tests.engines.peft_reference import PeftReference
from tests.lora import ATTENTION, SMOLLM2, write_adapter

ANSWER = 8
MOST, RANK = 3, 16

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed"),
    pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters that differ in rank, in what they change and in their scaling."""
    root = tmp_path_factory.mktemp("lora")
    return {
        "all": write_adapter(root / "all", 1, rank=16),
        "attention": write_adapter(
            root / "attention", 2, rank=6, modules=ATTENTION, lora_alpha=9, use_rslora=True, scale=0.1
        ),
    }


@pytest.fixture(scope="module")
def engine(start: Start, configure: Callable[..., EngineConfig], folders: dict[str, Path]) -> EngineChild:
    config = configure(
        "vllm", **EXACT["vllm"], threads=1, max_adapters=MOST, adapter_slots=MOST, max_adapter_rank=RANK
    )
    child = start(config)
    for name, folder in folders.items():
        load(child, name, folder)
    return child


@pytest.fixture(scope="module")
def peft(smollm2_gguf: Path, conversions: Path, folders: dict[str, Path]) -> Iterator[Child]:
    child = Child(PeftReference, smollm2_gguf, conversions, folders)
    yield child
    child.close()


def load(engine: EngineChild, name: str, folder: Path) -> None:
    engine.ask(_load, AdapterFiles(name, str(folder)))


def unload(engine: EngineChild, name: str) -> None:
    engine.ask(_unload, name)


def adapted(prompt: list[int], adapter: str, answer: int = ANSWER) -> Generation:
    return msgspec.structs.replace(generation(prompt, answer), adapter=adapter)


def answers(engine: EngineChild, *requests: Generation) -> list[list[int]]:
    result = engine.run(*requests)
    return [result[request.id][0] for request in requests]


def test_both_adapters_and_the_model_in_one_batch_say_what_peft_says(
    engine: EngineChild, peft: Child, prompts: list[list[int]]
) -> None:
    some = [prompts[index] for index in (4, 9, 13)]
    requests = [adapted(prompt, name) for prompt in some for name in ("all", "attention", "")]
    texts = answers(engine, *requests)
    for request, text in zip(requests, texts, strict=True):
        assert peft.ask(PeftReference.adapted_mistake, request.adapter, request.prompt, text) is None
    for first in range(0, len(texts), 3):
        assert len(set(map(tuple, texts[first : first + 3]))) == 3, "an adapter changed nothing"


def test_the_prefix_cache_tells_adapters_apart(
    engine: EngineChild, peft: Child, prompts: list[list[int]]
) -> None:
    prompt = prompts[16]  # more than a block of the cache
    for name in ("", "all", "attention", "all", ""):
        text = answers(engine, adapted(prompt, name))[0]
        assert peft.ask(PeftReference.adapted_mistake, name, prompt, text) is None, name


def test_what_is_loaded_again_from_a_changed_folder_is_computed_anew(
    engine: EngineChild, folders: dict[str, Path], prompts: list[list[int]], tmp_path: Path
) -> None:
    prompt = prompts[16]
    folder = write_adapter(tmp_path / "changing", 3)
    load(engine, "changing", folder)
    first = answers(engine, adapted(prompt, "changing"))
    unload(engine, "changing")
    save_file(load_file(folders["all"] / "adapter_model.safetensors"), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((folders["all"] / "adapter_config.json").read_text())
    load(engine, "changing", folder)
    second = answers(engine, adapted(prompt, "changing"))
    unload(engine, "changing")
    assert first != second == answers(engine, adapted(prompt, "all"))


def test_an_unloaded_adapter_is_refused_and_loads_again(
    engine: EngineChild, folders: dict[str, Path], prompts: list[list[int]]
) -> None:
    before = answers(engine, adapted(prompts[4], "attention"))
    unload(engine, "attention")
    with pytest.raises(ModelNotServed):
        engine.add(adapted(prompts[4], "attention"))
    load(engine, "attention", folders["attention"])
    assert answers(engine, adapted(prompts[4], "attention")) == before


def test_there_is_room_for_so_many_and_a_name_is_given_once(
    engine: EngineChild, folders: dict[str, Path]
) -> None:
    with pytest.raises(InvalidAdapter, match="is loaded"):
        load(engine, "all", folders["all"])
    load(engine, "third", folders["all"])
    with pytest.raises(InvalidAdapter, match="room for no more"):
        load(engine, "fourth", folders["all"])
    unload(engine, "third")
    with pytest.raises(ModelNotServed):
        unload(engine, "third")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("narrow", "576 x 576"),
        ("layers", "layers.30"),
        ("modules", "k_proj_of_another"),
        ("rank", "rank"),
        ("gone", "No adapter found"),
        ("dora", "DoRA"),
    ],
)
def test_a_bad_adapter_is_refused_and_the_engine_goes_on(
    engine: EngineChild, prompts: list[list[int]], tmp_path: Path, what: str, said: str
) -> None:
    before = answers(engine, adapted(prompts[4], "all"), adapted(prompts[4], ""))
    with pytest.raises(OpenLLMError, match=said):
        load(engine, "bad", bad_adapter(tmp_path / "bad", what))
    with pytest.raises(ModelNotServed):
        engine.add(adapted(prompts[4], "bad"))
    assert answers(engine, adapted(prompts[4], "all"), adapted(prompts[4], "")) == before


def bad_adapter(folder: Path, what: str) -> Path:
    match what:
        case "narrow":  # vLLM alone would take it, and answer wrongly
            return write_adapter(folder, 4, shape=SMOLLM2._replace(hidden=64), modules=ATTENTION)
        case "layers":
            return write_adapter(folder, 4, shape=SMOLLM2._replace(layers=31), modules=ATTENTION)
        case "modules":
            write_adapter(folder, 4, modules=ATTENTION)
            path = folder / "adapter_model.safetensors"
            save_file({k.replace("q_proj", "k_proj_of_another"): v for k, v in load_file(path).items()}, path)
            return folder
        case "rank":
            return write_adapter(folder, 4, rank=2 * RANK, modules=ATTENTION)
        case "dora":
            return write_adapter(folder, 4, modules=ATTENTION, use_dora=True)
    write_adapter(folder, 4, modules=ATTENTION)
    (folder / "adapter_config.json").unlink()
    return folder


def _load(engine: object, adapter: AdapterFiles) -> None:
    engine.load_adapter(adapter)  # type: ignore[attr-defined]


def _unload(engine: object, name: str) -> None:
    engine.unload_adapter(name)  # type: ignore[attr-defined]
