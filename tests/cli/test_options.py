"""Options that commands share."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.cli.options import PlanOptions, parse_size, takes_plan_options
from openllm.cli.settings import api_key, is_on, read_settings
from openllm.errors import UsageError
from openllm.plan import Overrides


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20), ("10B", 10), ("2GiB", 2 << 30), ("2gib", 2 << 30), ("512MB", 512_000_000),
        ("1.5G", 3 << 29), ("4k", 4096), ("4 KiB", 4096), (" 1TiB ", 1 << 40), ("0", 0),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "2XB", "1e9", "2 2GiB", "2GiBB", "nan"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 50), st.sampled_from(["", "B", "KiB", "MiB", "kB", "MB"]))
def test_sizes_are_whole_multiples(number: int, unit: str) -> None:
    one = parse_size(f"1{unit}")
    assert parse_size(f"{number}{unit}") in range(
        int(number * one * 0.999999), int(number * one * 1.000001) + 1
    )


def test_every_override_has_an_option() -> None:
    fields = {"kv_cache" if field == "kv_cache_bytes" else field for field in Overrides.__struct_fields__}
    assert fields == set(PlanOptions._fields) - {"offline", "cache_dir"}


def test_options_become_overrides() -> None:
    options = PlanOptions(backend="vllm", kv_cache=5, context=7, offline=True, cache_dir=Path("/c"))
    assert options.overrides() == Overrides(backend="vllm", kv_cache_bytes=5, context=7)
    settings = options.settings()
    assert settings.offline
    assert settings.cache == Path("/c")


def test_a_command_gets_all_options_at_once() -> None:
    got: list[tuple[str, PlanOptions]] = []

    @takes_plan_options
    def command(model: str, *, options: PlanOptions) -> None:
        """What it does."""
        got.append((model, options))

    given_options = {**PlanOptions()._asdict(), "threads": 3}
    command(model="m", **given_options)
    assert got == [("m", PlanOptions(threads=3))]
    assert list(inspect.signature(command).parameters) == ["model", *PlanOptions._fields]
    assert command.__doc__ == "What it does."


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "OPENLLM_CACHE": str(tmp_path / "c"), "OPENLLM_MODELS": "~/recipes", "HF_TOKEN": "secret",
            "HF_ENDPOINT": "http://mirror/", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "1",
            "OPENLLM_DEBUG": "0",
        }
    )  # fmt: skip
    assert settings.cache == tmp_path / "c"
    assert settings.recipes[0] == Path("~/recipes").expanduser()
    assert (settings.hub.token, settings.hub.endpoint) == ("secret", "http://mirror")
    assert (settings.offline, settings.debug, settings.visible_gpus) == (True, False, "1")
    bare = read_settings({})
    assert (bare.offline, bare.visible_gpus) == (False, None)
    assert bare.cache.is_absolute()


def test_keys_and_switches() -> None:
    assert api_key({"OPENLLM_API_KEY": "a", "OPENAI_API_KEY": "b"}) == "a"
    assert api_key({"OPENAI_API_KEY": "b"}) == "b"
    assert api_key({}) is None
    assert is_on({"X": "1"}, "X")
    assert not any(is_on({"X": text}, "X") for text in ("", "0", "no", "False", " off "))
