"""Opening an engine: what is refused, what is missing, what is broken, and what is converted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from openllm.engines.base import EngineConfig
from openllm.engines.cached_folder import check_disk, folder_for, new_folder
from openllm.engines.open import open_engine
from openllm.errors import CorruptFile, DiskFull, EngineMissing, RunnerFailed, UnsupportedOption, WeightsError
from tests.engines.child import Child, EngineChild, fold, generation
from tests.engines.conftest import EXACT, Start

Configure = Callable[..., EngineConfig]


def opened(config: EngineConfig) -> Any:
    return open_engine(config, report=lambda _: None)


class TestRefusals:
    @pytest.mark.parametrize(
        ("engine", "changes", "param"),
        [
            ("tensorrt", {}, "backend"),
            ("openvino", {"dtype": "int4"}, "dtype"),
            ("openvino", {"kv_cache_dtype": "fp8"}, "kv_cache_dtype"),
            ("openvino", {"quantization": "awq"}, "quantize"),
            ("openvino", {"device": "cuda"}, "device"),
            ("openvino", {"tensor_parallel": 2}, "tensor_parallel"),
            ("openvino", {"options": {"speed": "9"}}, "engine_option"),
            ("openvino", {"max_adapters": 1}, "adapter"),
            ("echo", {"max_adapters": 1}, "adapter"),
            ("vllm", {"options": {"speed": "9"}}, "engine_option"),
            ("transformers", {"options": {"speed": "9"}}, "engine_option"),
            ("transformers", {"max_adapters": 1}, "adapter"),
            ("echo", {"options": {"speed": "9"}}, "options"),
        ],
    )
    def test_options(self, configure: Configure, engine: str, changes: dict[str, Any], param: str) -> None:
        with pytest.raises(UnsupportedOption) as refused:
            opened(configure(engine, **changes))
        assert refused.value.param == param
        assert refused.value.hint

    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "int4"}, {"kv_cache_dtype": "fp8"}, {"quantization": "int8"}, {"tensor_parallel": 2},
        ],
    )  # fmt: skip
    def test_options_of_vllm(self, configure: Configure, changes: dict[str, Any]) -> None:
        pytest.importorskip("accelerate")
        with pytest.raises(UnsupportedOption) as refused:
            EngineChild(configure("vllm", **changes))
        assert refused.value.hint

    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "int4"}, {"kv_cache_dtype": "fp8"}, {"quantization": "awq"}, {"tensor_parallel": 2},
            {"max_images": 1},
        ],
    )  # fmt: skip
    def test_options_of_transformers(self, configure: Configure, changes: dict[str, Any]) -> None:
        pytest.importorskip("accelerate")
        with pytest.raises(UnsupportedOption) as refused:
            EngineChild(configure("transformers", **changes))
        assert refused.value.hint

    def test_an_architecture_that_needs_torchvision(self, configure: Configure, tmp_path: Path) -> None:
        """vLLM's LLaVA reads Pixtral's processor, which reads torchvision."""
        if find_spec("vllm") is None or find_spec("torchvision") is not None:
            pytest.skip("vllm is not installed, or torchvision is")
        config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(EngineMissing, match="torchvision"):
            EngineChild(configure("vllm", path=str(tmp_path), context=64, max_images=1))

    def test_missing_package(self, configure: Configure) -> None:
        """In an interpreter that cannot see the package."""
        script = (
            "import sys\nsys.modules['openvino_genai'] = None\n"
            "from openllm.engines.base import EngineConfig\nfrom openllm.engines.open import open_engine\n"
            "import msgspec\nconfig = msgspec.json.decode(sys.argv[1], type=EngineConfig)\n"
            "try:\n    open_engine(config, print)\nexcept Exception as error:\n"
            "    print(type(error).__name__, error, error.hint)\n"
        )
        import msgspec

        config = msgspec.json.encode(configure("openvino")).decode()
        done = subprocess.run(
            [sys.executable, "-c", script, config], capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[0] == EngineMissing.__name__
        assert "pip install" in done.stdout

    def test_no_model_in_the_folder(self, configure: Configure, tmp_path: Path) -> None:
        with pytest.raises(RunnerFailed, match=r"openvino_model\.xml") as failed:
            opened(configure("openvino", path=str(tmp_path)))
        assert failed.value.hint

    def test_a_broken_model_in_the_folder(
        self, configure: Configure, tmp_path: Path, smollm2_gguf: Path, conversions: Path
    ) -> None:
        good = next(conversions.glob("openvino-*-int8-*"), None)
        if good is None:
            pytest.skip("nothing was converted yet")
        shutil.copy(good / "openvino_model.xml", tmp_path)
        (tmp_path / "openvino_model.bin").write_bytes(b"too short")
        with pytest.raises(RunnerFailed) as failed:
            opened(configure("openvino", path=str(tmp_path)))
        assert "\n" not in failed.value.message


class TestGguf:
    def test_corrupt_file(self, configure: Configure, smollm2_gguf: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(smollm2_gguf.read_bytes()[: 50 << 20])
        with pytest.raises(CorruptFile):
            opened(configure("openvino", path=str(cut), cache=str(tmp_path / "cache")))
        assert not list((tmp_path / "cache").glob("*"))

    def test_unknown_architecture(self, configure: Configure, tmp_path: Path) -> None:
        path = tmp_path / "strange.gguf"
        writer = GGUFWriter(path, "strange")
        writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(UnsupportedOption, match="strange") as refused:
            opened(configure("openvino", path=str(path), cache=str(tmp_path / "cache")))
        assert "--backend vllm" in str(refused.value.hint)
        assert not list((tmp_path / "cache").glob("*"))

    def test_second_opening_converts_nothing(
        self, configure: Configure, smollm2_gguf: Path, tmp_path: Path
    ) -> None:
        config = configure("openvino", quantization="int8", cache=str(tmp_path))
        first = Child(_Opened, config)
        made = sorted(tmp_path.rglob("*"))
        second = Child(_Opened, config)
        assert [line.split()[0] for line in first.ask(_reports)] == ["converting", "loading"]
        assert [line.split()[0] for line in second.ask(_reports)] == ["loading"]
        first.close()
        second.close()
        assert sorted(tmp_path.rglob("*")) == made


class _Opened:
    def __init__(self, config: EngineConfig) -> None:
        self.reports: list[str] = []
        self.engine = open_engine(config, self.reports.append)


def _reports(opened_engine: _Opened) -> list[str]:
    return opened_engine.reports


def fill(target: Path, *names: str) -> None:
    with new_folder(target) as folder:
        for name in names:
            (folder / name).write_text("x")
            assert not target.exists()


class TestCachedFolder:
    def test_name_follows_the_source(self, tmp_path: Path) -> None:
        source = tmp_path / "model.gguf"
        source.write_bytes(b"one")
        first = folder_for(source, tmp_path, "openvino", "int8", 1)
        assert first == folder_for(source, tmp_path, "openvino", "int8", 1)
        others = {
            folder_for(source, tmp_path, "openvino", "float16", 1),
            folder_for(source, tmp_path, "openvino", "int8", 2),
        }
        source.write_bytes(b"other")
        others.add(folder_for(source, tmp_path, "openvino", "int8", 1))
        assert len(others | {first}) == 4
        with pytest.raises(WeightsError, match="No such file"):
            folder_for(tmp_path / "absent.gguf", tmp_path, "openvino", "int8", 1)

    def test_whole_or_absent(self, tmp_path: Path) -> None:
        target = tmp_path / "model"
        with pytest.raises(WeightsError, match="No such file"):
            fill(target, "half", "missing/whole")
        assert not list(tmp_path.iterdir())
        fill(target, "whole")
        assert [path.name for path in tmp_path.rglob("*")] == ["model", "whole"]

    def test_two_at_once(self, tmp_path: Path) -> None:
        target = tmp_path / "model"
        with new_folder(target) as folder:
            (folder / "mine").write_text("x")
            target.mkdir()
            (target / "theirs").write_text("x")
        assert [path.name for path in target.iterdir()] == ["theirs"]

    def test_what_a_killed_process_left_is_swept_away(self, tmp_path: Path) -> None:
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
        )
        (tmp_path / f"model.part-{int(child.stdout)}").mkdir()
        (tmp_path / f"model.part-{os.getppid()}").mkdir()
        with new_folder(tmp_path / "model"):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"model", f"model.part-{os.getppid()}"}

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stand-in for the disk: a full one cannot be had without mounting one."""
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
        with pytest.raises(DiskFull, match="1 MiB are free") as refused:
            check_disk(tmp_path, 5 << 20, "model.gguf")
        assert refused.value.hint


def test_a_sequence_that_breaks_a_step_leaves_the_others_whole(
    start: Start, configure: Configure, text_ids: list[int]
) -> None:
    """A request with a grammar, which the engine would not make, breaks GenAI's step until it is cancelled."""
    engine = start(configure("openvino", **EXACT["openvino"]))
    requests = [generation(text_ids[n : n + 20], 8) for n in range(3)]
    expected = [next(iter(engine.run(generation(request.prompt, 8)).values()))[0] for request in requests]
    for request in requests[:2]:
        engine.add(request)
    begun = engine.step()
    poison = generation(text_ids[:9])
    engine.ask(_add_poison, poison)
    result = fold([*begun, *engine.steps()])
    assert result[poison.id] == ([], "error")
    result |= engine.run(requests[2])
    assert [result[request.id] for request in requests] == [(answer, "length") for answer in expected]


def _add_poison(engine: Any, request: Any) -> None:
    import openvino as ov
    import openvino_genai as genai

    from openllm.engines.openvino_engine import _generation_config
    from openllm.engines.openvino_sequence import Sequence

    config = _generation_config(request.sampling)
    config.structured_output_config = genai.StructuredOutputConfig(json_schema='{"type": "nonsense"}')
    prompt = ov.Tensor(np.array([request.prompt], np.int64))
    handle = engine._pipeline.add_request(request.id, prompt, config)
    engine._sequences[request.id] = Sequence(handle, request)
