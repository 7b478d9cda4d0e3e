"""What a folder or repository says of a model that encodes texts, before its weights are fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from openllm.weights.config_shape import Config
from openllm.weights.manifest import EmbeddingFormat

ENCODER_TASKS = ("embedding", "rerank")
# Encoders whose graph the OpenVINO engine builds from safetensors, by their class in config.json.
_BUILT = re.compile(
    r"(Bert|Roberta|XLMRoberta|Camembert|DistilBert|MPNet)(Model|ForMaskedLM|ForSequenceClassification)"
)
# The first positions of these are those of padding: as many as the padding's id, and one.
_SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet")


def is_built(architecture: str) -> bool:
    """Can the OpenVINO engine build the graph of this class itself?"""
    return _BUILT.fullmatch(architecture) is not None


def encoder_context(config: Config, longest: object) -> int:
    """The longest text in tokens; ``longest`` is sentence-transformers' own limit, if there is one."""
    context = config.context
    if config.model_type in _SHIFTED:
        pad = config.get("pad_token_id") if config.model_type != "mpnet" else 1
        context -= (pad if isinstance(pad, int) else 1) + 1
    return min(context, longest) if isinstance(longest, int) and longest > 0 else context


def embedding_format(raw: Mapping[str, Any]) -> EmbeddingFormat:
    """What config.json says of vectors that may be cut, by the keys that vLLM reads."""
    sizes = raw.get("matryoshka_dimensions")
    if isinstance(sizes, list) and sizes and all(isinstance(each, int) for each in sizes):
        return EmbeddingFormat(least_dimensions=min(sizes), dimensions=tuple(sorted(sizes)))
    return EmbeddingFormat(least_dimensions=1 if raw.get("is_matryoshka") is True else None)
