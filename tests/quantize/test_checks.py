"""What is refused before the work begins."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from openllm.errors import DoesNotFit, UnsupportedOption, UsageError
from openllm.machine import Machine
from openllm.quantize.checks import check_memory, check_output, group_size
from openllm.quantize.modes import MODES, mode_named
from openllm.quantize.source import candidates
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.inspect import manifests
from openllm.weights.made import RECORD
from openllm.weights.manifest import Manifest
from openllm.weights.settings import HubSettings

SMALL = Machine(
    name="small", system="Linux", architecture="x86_64", cores=2, memory=8 << 30, free_memory=6 << 30,
    free_disk=1 << 40,
)  # fmt: skip


def variants(name: str) -> list[Manifest]:
    registry = Registry.open([shipped_folder()])
    return list(manifests(name, registry, hub=HubSettings(cache="/nowhere"), offline=True))


def test_the_largest_group_that_divides_all_widths() -> None:
    assert group_size(MODES["gptq"], None, (4096, 11008), 7_000_000_000) == 128
    assert group_size(MODES["gptq"], None, (3008, 8192), 7_000_000_000) == 64


def test_a_small_model_has_small_groups() -> None:
    assert group_size(MODES["awq"], None, (576, 1536), 135_000_000) == 32


def test_a_group_that_does_not_divide_names_those_that_do() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        group_size(MODES["gptq"], 128, (576, 1536), 135_000_000)
    assert caught.value.hint == "Group sizes that divide 576, 1536 and have kernels: 64, 32."


def test_a_group_that_no_kernel_has_is_known_before_the_model() -> None:
    assert group_size(MODES["gptq"], 64, (), 135_000_000) == 64
    with pytest.raises(UnsupportedOption) as caught:
        group_size(MODES["gptq"], 48, (), 135_000_000)
    assert caught.value.hint == "Group sizes that have kernels: 128, 64, 32."


def test_groups_of_a_mode_without() -> None:
    assert group_size(MODES["w8a8"], None, (576,), 135_000_000) is None
    with pytest.raises(UnsupportedOption, match="one scale a row"):
        group_size(MODES["w8a8"], 64, (576,), 135_000_000)


def test_no_group_divides() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        group_size(MODES["gptq"], None, (100, 300), 135_000_000)
    assert "w8a8" in (caught.value.hint or "")


def test_memory_is_predicted() -> None:
    check_memory(MODES["gptq"], variants("smollm2")[1], SMALL, 64, 512)
    with pytest.raises(DoesNotFit, match="takes about"):
        check_memory(MODES["gptq"], variants("llama2:7b-chat")[0], SMALL, 64, 512)


def test_an_output_that_exists(tmp_path: Path) -> None:
    check_output(tmp_path / "new", asked=True, force=False)
    check_output(tmp_path, asked=True, force=False)  # an empty folder is as good as none
    (tmp_path / RECORD).write_text("{}")
    check_output(tmp_path, asked=True, force=True)
    with pytest.raises(UsageError, match="exists already"):
        check_output(tmp_path, asked=True, force=False)


def test_nothing_else_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("years of work")
    with pytest.raises(UsageError, match="is no checkpoint of openllm quantize"):
        check_output(tmp_path, asked=True, force=True)
    with pytest.raises(UsageError, match="is no checkpoint of openllm quantize"):
        check_output(tmp_path / "thesis.odt", asked=True, force=True)


def test_an_unknown_mode() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        mode_named("int3")
    assert "gptq" in (caught.value.hint or "")


def test_floats_are_preferred() -> None:
    assert [each.variant for each in candidates(variants("smollm2"), None)] == ["bf16", "q4_1"]
    assert [each.variant for each in candidates(variants("smollm2"), "q4_1")] == ["q4_1"]


def test_no_source() -> None:
    with pytest.raises(UnsupportedOption, match="no variant 'q9'"):
        candidates(variants("smollm2"), "q9")
    with pytest.raises(UnsupportedOption, match="cannot be quantized here"):
        candidates(variants("all-minilm"), None)
    awq = [
        msgspec.structs.replace(each, format="safetensors", quantization="awq")
        for each in variants("smollm2")
    ]
    with pytest.raises(UnsupportedOption, match="safetensors awq"):
        candidates(awq, None)
