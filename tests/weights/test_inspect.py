"""What is known of a model before its weights are fetched, for everything that can be named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openllm.errors import (
    CorruptFile,
    GatedModel,
    MissingRevision,
    OfflineMiss,
    SourceUnavailable,
    UnknownModel,
    WeightsError,
)
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import manifests
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, PypiFile, PypiFolder
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.weights.builders import LLAMA_CONFIG, llama_files, llama_gguf, write_folder
from tests.weights.conftest import Recorder
from tests.weights.loopback_hub import LoopbackHub, LoopbackRepo

TEMPLATE = '{{ bos }}<tool_call>{"arguments": {{ tool }}}</tool_call><think>'


class Inspector:
    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.registry = Registry.open([shipped_folder()])

    def __call__(self, text: str, *, offline: bool = False, fresh: bool = False) -> tuple[Manifest, ...]:
        return manifests(text, self.registry, hub=self.settings, offline=offline, fresh=fresh)


@pytest.fixture
def inspected(settings: HubSettings) -> Inspector:
    return Inspector(settings)


# Recipes


def test_a_recipe_by_name(inspected: Inspector, hub: LoopbackHub) -> None:
    found = inspected("smollm2", offline=True)
    package = next(each for each in found if isinstance(each.source, PypiFile))
    assert package.name == "smollm2:135m-instruct"
    assert package.shape.parameters == 134_515_008
    assert (package.format, package.quantization, package.context) == ("gguf", "gguf-q4_1", 8192)
    assert hub.asked == []


def test_a_hub_id_that_a_recipe_knows_takes_the_recipe(inspected: Inspector, hub: LoopbackHub) -> None:
    (found,) = inspected("HuggingFaceTB/SmolLM2-135M-Instruct", offline=True)
    assert found.name == "smollm2:135m-instruct"
    assert isinstance(found.source, HubFiles)
    assert hub.asked == []


def test_an_unknown_name(inspected: Inspector) -> None:
    with pytest.raises(UnknownModel):
        inspected("no-such-model")


# The hub


@pytest.fixture
def repository(hub: LoopbackHub) -> LoopbackRepo:
    files = llama_files(numbers=500_000) | {
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode()
    }
    hub.repos["org/model"] = LoopbackRepo(files, branches=("main", "v1"))
    return hub.repos["org/model"]


def test_a_repository_of_safetensors(
    inspected: Inspector, hub: LoopbackHub, repository: LoopbackRepo
) -> None:
    (found,) = inspected("org/model@v1")
    assert found.source == HubFiles(repo="org/model", revision="v1")
    assert found.bytes == len(repository.files["model.safetensors"])
    assert found.shape.parameters == 500_000
    assert (found.shape.layers, found.shape.kv_heads, found.shape.head_size) == (2, 2, 16)
    assert (found.context, found.dtype, found.quantization) == (512, "bfloat16", "none")
    assert (found.task, found.chat.tools, found.chat.reasoning) == ("chat", "hermes", "think")
    assert found.engines[0] == "vllm"
    assert hub.bytes_sent("model.safetensors") < 1000


def test_a_repository_of_gguf_files(inspected: Inspector, hub: LoopbackHub) -> None:
    small = llama_gguf(file_type=15, tensor_type=2)
    files = {
        "model-Q4_K_M.gguf": small,
        "model-Q8_0.gguf": llama_gguf(),
        "BF16/model-BF16-00001-of-00002.gguf": llama_gguf(),
        "BF16/model-BF16-00002-of-00002.gguf": llama_gguf(),
        "mmproj-model-f16.gguf": b"vision",
        "README.md": b"",
    }
    hub.repos["org/model-GGUF"] = LoopbackRepo(files)
    found = inspected("org/model-GGUF")
    assert [each.variant for each in found] == ["q8_0", "q4_k_m", "bf16"]
    assert found[0].source == HubFiles(repo="org/model-GGUF", patterns=("model-Q8_0.gguf",))
    assert isinstance(found[2].source, HubFiles)
    assert len(found[2].source.patterns) == 2
    assert found[1].bytes == len(small)
    assert found[2].bytes == 2 * len(files["model-Q8_0.gguf"])
    assert found[0].shape.vocabulary == 300
    assert found[0].engines == ("openvino", "vllm", "transformers")
    assert hub.files_asked() == {"model-Q8_0.gguf"}


def test_a_long_gguf_header_is_read_in_steps(inspected: Inspector, hub: LoopbackHub) -> None:
    tokens = [f"{index:0100d}" for index in range(60_000)]
    content = llama_gguf({"tokenizer.ggml.tokens": tokens}) + b"\0" * 20_000_000
    hub.repos["org/model-GGUF"] = LoopbackRepo({"model-Q8_0.gguf": content})
    (found,) = inspected("org/model-GGUF")
    assert found.shape.vocabulary == 60_000
    assert hub.bytes_sent("model-Q8_0.gguf") <= 16 << 20


def test_a_repository_of_an_openvino_ir(inspected: Inspector, hub: LoopbackHub) -> None:
    hub.repos["org/model-ov"] = LoopbackRepo(_ir_files("u4"))
    (found,) = inspected("org/model-ov")
    assert (found.format, found.quantization, found.engines) == ("openvino", "int4", ("openvino",))
    assert found.bytes == 100


def test_what_is_whole_in_the_cache_asks_the_hub_nothing(
    inspected: Inspector, hub: LoopbackHub, repository: LoopbackRepo, empty_store: Store, recorder: Recorder
) -> None:
    (found,) = inspected("org/model")
    fetch(found, empty_store, reporter=recorder, offline=False, hub=inspected.settings)
    hub.asked.clear()
    assert inspected("org/model", offline=True) == inspected("org/model") == (found,)
    assert hub.asked == []


def test_fresh_finds_a_new_commit_and_fetches_it(
    inspected: Inspector, hub: LoopbackHub, repository: LoopbackRepo, empty_store: Store, recorder: Recorder
) -> None:
    (first,) = inspected("org/model")
    old = fetch(first, empty_store, reporter=recorder, offline=False, hub=inspected.settings)
    repository.commit = "b" * 40
    repository.files["model.safetensors"] = llama_files(numbers=600_000)["model.safetensors"]
    (second,) = inspected("org/model", fresh=True)
    assert second.shape.parameters == 600_000
    new = fetch(second, empty_store, reporter=recorder, offline=False, hub=inspected.settings, fresh=True)
    assert (Path(old.path).name, Path(new.path).name) == ("a" * 40, "b" * 40)
    assert empty_store.ready(second) == new
    hub.faults.status = 503
    assert inspected("org/model", fresh=True)[0].shape == second.shape


def test_offline_without_the_repository(inspected: Inspector, repository: LoopbackRepo) -> None:
    with pytest.raises(OfflineMiss):
        inspected("org/model", offline=True)


def test_the_hubs_refusals(inspected: Inspector, hub: LoopbackHub, repository: LoopbackRepo) -> None:
    with pytest.raises(UnknownModel):
        inspected("org/absent")
    with pytest.raises(MissingRevision):
        inspected("org/model@v9")
    repository.gated, repository.token = True, "hf_right"
    with pytest.raises(GatedModel):
        inspected("org/model")
    hub.faults.status = 500
    with pytest.raises(SourceUnavailable):
        inspected("org/model")


def test_a_repository_without_weights(inspected: Inspector, hub: LoopbackHub) -> None:
    hub.repos["org/data"] = LoopbackRepo({"README.md": b"", "data.parquet": b""})
    with pytest.raises(WeightsError, match="no weights"):
        inspected("org/data")


# Files of this machine


def _ir_files(element_type: str) -> dict[str, bytes]:
    return {
        "config.json": json.dumps(LLAMA_CONFIG).encode(),
        "openvino_model.xml": f'<net><data element_type="f16"/><data element_type="{element_type}"/></net>'.encode(),
        "openvino_model.bin": b"\0" * 100,
        "openvino_tokenizer.xml": b"<net/>",
        "openvino_tokenizer.bin": b"\0",
        "tokenizer.json": b"{}",
    }


def test_a_folder_of_safetensors(
    inspected: Inspector, tmp_path: Path, empty_store: Store, recorder: Recorder
) -> None:
    folder = write_folder(tmp_path / "my-llama", llama_files())
    (found,) = inspected(str(folder))
    assert found.name == "my-llama"
    assert found.source == LocalPath(path=str(folder))
    assert found.shape.parameters == 1000
    assert found.task == "completion"
    weights = fetch(found, empty_store, reporter=recorder, offline=True, hub=inspected.settings)
    assert (weights.path, weights.tokenizer) == (str(folder), str(folder))
    assert empty_store.ready(found) == weights
    assert not empty_store.root.exists()
    (folder / "model.safetensors").unlink()
    assert empty_store.ready(found) is None


def test_a_folder_of_an_openvino_ir(
    inspected: Inspector, tmp_path: Path, empty_store: Store, recorder: Recorder
) -> None:
    folder = write_folder(tmp_path / "ir", _ir_files("u8"))
    (found,) = inspected(str(folder))
    assert (found.format, found.quantization) == ("openvino", "int8")
    assert fetch(found, empty_store, reporter=recorder, offline=True, hub=inspected.settings).path == str(
        folder
    )


def test_a_gguf_file(inspected: Inspector, tmp_path: Path, empty_store: Store, recorder: Recorder) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(llama_gguf())
    (found,) = inspected(str(path))
    assert (found.name, found.format, found.quantization) == ("small", "gguf", "gguf-q8_0")
    assert (found.shape.parameters, found.bytes) == (300 * 64 + 64, path.stat().st_size)
    assert (found.task, found.chat.tools) == ("chat", "hermes")
    weights = fetch(found, empty_store, reporter=recorder, offline=True, hub=inspected.settings)
    assert weights.path == weights.tokenizer == str(path)


def test_the_real_gguf_file(inspected: Inspector, smollm2_gguf: Path) -> None:
    (found,) = inspected(str(smollm2_gguf))
    recipe = next(each for each in inspected("smollm2", offline=True) if each.format == "gguf")
    assert found.shape == recipe.shape
    assert (found.quantization, found.context, found.task) == (
        recipe.quantization,
        recipe.context,
        recipe.task,
    )


def test_a_gguf_model_of_several_files(inspected: Inspector, tmp_path: Path) -> None:
    names = [f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    write_folder(tmp_path, dict.fromkeys(names, llama_gguf()))
    (found,) = inspected(str(tmp_path / names[0]))
    assert found.shape.parameters == 2 * (300 * 64 + 64)
    (tmp_path / names[1]).unlink()
    with pytest.raises(CorruptFile, match="lacks big-00002-of-00002"):
        inspected(str(tmp_path / names[0]))


def test_an_architecture_that_no_engine_reads(inspected: Inspector, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(
        llama_gguf(
            {
                "general.architecture": "odd",
                "odd.block_count": 2,
                "odd.embedding_length": 64,
                "odd.attention.head_count": 4,
                "tokenizer.chat_template": "x",
            }
        )
    )
    (found,) = inspected(str(path))
    assert (found.engines, found.task) == ((), "chat")


def test_a_gguf_file_for_embeddings(inspected: Inspector, tmp_path: Path) -> None:
    path = tmp_path / "embeds.gguf"
    path.write_bytes(llama_gguf({"llama.pooling_type": 3}))
    assert inspected(str(path))[0].task == "embedding"


@pytest.mark.parametrize("length", [0, 3, 40, 2000, 15_000])
def test_a_gguf_file_that_is_cut_short(inspected: Inspector, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(llama_gguf()[:length])
    with pytest.raises(CorruptFile, match=r"cut\.gguf") as caught:
        inspected(str(path))
    assert caught.value.hint


def test_safetensors_that_are_cut_short(inspected: Inspector, tmp_path: Path) -> None:
    files = llama_files()
    folder = write_folder(tmp_path / "cut", files | {"model.safetensors": files["model.safetensors"][:-1]})
    with pytest.raises(CorruptFile, match="cut short"):
        inspected(str(folder))


def test_a_shard_that_is_missing(
    inspected: Inspector, tmp_path: Path, empty_store: Store, recorder: Recorder
) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = llama_files() | {"model.safetensors.index.json": json.dumps(index).encode()}
    (found,) = inspected(str(write_folder(tmp_path / "model", files)))
    with pytest.raises(CorruptFile, match="lacks model-00002"):
        fetch(found, empty_store, reporter=recorder, offline=True, hub=inspected.settings)


def test_folders_that_are_no_model(inspected: Inspector, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no file or folder"):
        inspected(str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match="no weights"):
        inspected(str(write_folder(tmp_path / "other", {"notes.txt": b"x"})))
    with pytest.raises(CorruptFile, match=r"config\.json of bad is damaged"):
        inspected(str(write_folder(tmp_path / "bad", llama_files() | {"config.json": b"{"})))
    with pytest.raises(WeightsError, match="does not tell num_hidden_layers"):
        inspected(
            str(
                write_folder(
                    tmp_path / "no-layers",
                    llama_files() | {"config.json": b'{"hidden_size": 8, "vocab_size": 9}'},
                )
            )
        )


_LIGHT = """
import sys
from pathlib import Path
from openllm.recipes.registry import Registry
from openllm.weights.inspect import manifests
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
found = manifests(sys.argv[1], Registry.open([]), hub=HubSettings(cache="/nowhere"), offline=True)
Store(Path("/nowhere")).ready(found[0])
heavy = {"huggingface_hub", "httpx2", "numpy", "rich", "gguf", "asyncio"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or None)
"""


def test_the_start_path_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(llama_gguf())
    ended = subprocess.run([sys.executable, "-c", _LIGHT, str(path)], capture_output=True, text=True)
    assert ended.stderr.strip() == ""
    assert ended.returncode == 0


# Models that encode


def encoder_files(model_type: str, architecture: str, **config: object) -> dict[str, bytes]:
    facts: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": "float32",
        **config,
    }
    return llama_files(**facts)


def test_a_sentence_transformer_folder(inspected: Inspector, tmp_path: Path) -> None:
    files = encoder_files("bert", "BertModel", matryoshka_dimensions=[64, 32])
    files["modules.json"] = b"[]"
    files["sentence_bert_config.json"] = b'{"max_seq_length": 128}'
    (found,) = inspected(str(write_folder(tmp_path / "encoder", files)))
    assert (found.task, found.context, found.engines[0]) == ("embedding", 128, "openvino")
    assert (found.embedding.least_dimensions, found.embedding.dimensions) == (32, (32, 64))


@pytest.mark.parametrize(
    ("model_type", "architecture", "pad", "context"),
    [("bert", "BertForSequenceClassification", 0, 512), ("xlm-roberta", "XLMRobertaForSequenceClassification", 1, 510),
     ("roberta", "RobertaForSequenceClassification", 1, 510)],
)  # fmt: skip
def test_a_reranker_folder(
    inspected: Inspector, tmp_path: Path, model_type: str, architecture: str, pad: int, context: int
) -> None:
    files = encoder_files(model_type, architecture, pad_token_id=pad)
    (found,) = inspected(str(write_folder(tmp_path / "reranker", files)))
    assert (found.task, found.context) == ("rerank", context)
    assert found.engines == ("openvino", "vllm", "transformers")


def test_an_encoder_that_openvino_cannot_build(inspected: Inspector, tmp_path: Path) -> None:
    files = encoder_files("nomic_bert", "NomicBertModel")
    (found,) = inspected(str(write_folder(tmp_path / "encoder", files)))
    assert (found.task, found.engines) == ("embedding", ("vllm", "transformers"))


def test_a_recipe_with_a_folder_of_a_wheel(inspected: Inspector) -> None:
    first = inspected("all-minilm", offline=True)[0]
    assert isinstance(first.source, PypiFolder)
    assert first.source.bytes > first.bytes == 90_868_376
    assert first.engines[0] == "openvino"
    (qwen, _) = inspected("qwen3-embedding", offline=True)
    assert (qwen.embedding.pooling, qwen.embedding.least_dimensions) == ("last", 32)


@pytest.mark.parametrize(
    ("file", "settings", "name"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": True}, "gptq"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True}, "awq"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, "fp8"),
    ],
)
def test_older_quantized_folders(
    inspected: Inspector, tmp_path: Path, file: str, settings: dict[str, Any], name: str
) -> None:
    files = llama_files() | {file: json.dumps(settings).encode()}
    (found,) = inspected(str(write_folder(tmp_path / "model", files)))
    assert found.quantization == name
    (plain,) = inspected(str(write_folder(tmp_path / "plain", llama_files())))
    assert plain.quantization == "none"
