"""What the engine needs to know of an IR folder, read from its XML without building the graph."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from openllm.errors import CorruptFile, RunnerFailed

_STATE = re.compile(rb'variable_shape="([-?0-9,.]+)"')
_RESULT = re.compile(rb'name="logits" type="Result".*?</input>', re.DOTALL)
_EXTENT = re.compile(rb"<dim>(-?\d+)</dim>")


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``vocabulary`` counts token ids; ``states`` are (heads, size) of each layer's keys and values."""

    vocabulary: int
    states: tuple[tuple[int, int], ...]

    def cache_bytes(self, block: int, bytes_per_number: float, overhead: int) -> int:
        """Bytes of one KV block of ``block`` tokens; ``overhead`` bytes are added per token and head."""
        return sum(int(block * heads * (size * bytes_per_number + overhead)) for heads, size in self.states)


def read_facts(folder: Path) -> ModelFacts:
    """Read ``openvino_model.xml``. Raises ``RunnerFailed`` if it is missing or not a decoder with logits."""
    path = folder / "openvino_model.xml"
    try:
        xml = path.read_bytes()
    except OSError as error:
        raise RunnerFailed(
            f"{folder} holds no openvino_model.xml.", hint="Give an OpenVINO IR folder or a .gguf file."
        ) from error
    result = _RESULT.findall(xml)
    extents = _EXTENT.findall(result[-1]) if result else []
    states = tuple(_state(shape) for shape in _STATE.findall(xml))
    if not extents or int(extents[-1]) <= 0 or not states:
        raise CorruptFile(
            f"{path} is not a text generation model.", hint="Export it with its KV cache as state."
        )
    return ModelFacts(vocabulary=int(extents[-1]), states=states)


def _state(shape: bytes) -> tuple[int, int]:
    _, heads, _, size = shape.split(b",")
    return int(heads), int(size)
