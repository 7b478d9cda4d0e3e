"""What a model's config.json says of its architecture. Key names are those of transformers' configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openllm.errors import WeightsError
from openllm.weights.manifest import Shape

# The same fact under the names of older architectures.
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "expert_inner": ("moe_intermediate_size", "expert_ffn_hidden_size"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "chosen_experts": ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    "context": (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "model_max_length",
        "n_ctx",
    ),
}
# What published files leave to the defaults of the configuration class.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "tie_word_embeddings": True, "sliding_window_pattern": 2},
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "sliding_window_pattern": 6,
    },
    "cohere": {"tie_word_embeddings": True},
    "cohere2": {"tie_word_embeddings": True, "sliding_window_pattern": 4},
    "gpt_oss": {"sliding_window_pattern": 2},
    "gpt2": {"tie_word_embeddings": True},
    "bert": {"tie_word_embeddings": True},
}
_NESTED = ("text_config", "llm_config", "language_config")
# Two matrices in the feed-forward part, where newer ones have three (a gate).
_UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "bert", "roberta", "xlm-roberta",
            "mpt", "starcoder2", "nemotron")  # fmt: skip


class Config:
    """A config.json, with the text model's own part laid over the outer one of multimodal models."""

    def __init__(self, raw: Mapping[str, Any], name: str) -> None:
        """``name`` is the model's, for messages."""
        self.name = name
        self._raw = raw
        inner: dict[str, Any] = next((raw[key] for key in _NESTED if isinstance(raw.get(key), dict)), {})
        model_type = inner.get("model_type") or raw.get("model_type") or ""
        self.model_type: str = "gemma3_text" if model_type == "gemma3" else model_type
        self._values = {**_DEFAULTS.get(self.model_type, {}), **raw, **inner}

    @property
    def architecture(self) -> str:
        listed = self._raw.get("architectures") or self._values.get("architectures") or []
        return str(listed[0]) if listed else ""

    def get(self, key: str) -> Any:
        """The value under transformers' own ``key``, None where it is not given."""
        return self._values.get(key)

    def number(self, fact: str) -> int | None:
        """A fact of ``_NAMES`` as a positive number, None where it is not given."""
        for key in _NAMES[fact]:
            value = self._values.get(key)
            if isinstance(value, list) and value:  # one for each layer
                value = max(value)
            if isinstance(value, int) and value > 0:
                return value
        return None

    def needed(self, fact: str) -> int:
        """As ``number``. Raises ``WeightsError`` where it is not given."""
        value = self.number(fact)
        if value is None:
            raise WeightsError(
                f"config.json of {self.name} does not tell {_NAMES[fact][0]}.",
                hint="Only language models can be served; check that it is one.",
            )
        return value

    @property
    def head_size(self) -> int:
        given = self.get("head_dim")
        if isinstance(given, int) and given > 0:
            return given
        if self.latent_kv is not None:
            return int(self.get("qk_nope_head_dim") or 0) + int(self.get("qk_rope_head_dim") or 0)
        return self.needed("hidden") // self.needed("heads")

    @property
    def kv_heads(self) -> int:
        if self.get("multi_query") is True and not self.get("new_decoder_architecture"):
            return 1  # falcon-7b
        return self.number("kv_heads") or self.needed("heads")

    @property
    def latent_kv(self) -> int | None:
        """Numbers that multi-head latent attention caches per token and layer."""
        rank = self.get("kv_lora_rank")
        return int(rank) + int(self.get("qk_rope_head_dim") or 0) if rank else None

    @property
    def context(self) -> int:
        """Longest context in tokens; 2048, the shortest in use, where it is not given."""
        return self.number("context") or 2048

    @property
    def dtype(self) -> str | None:
        """As stored: float32, float16 or bfloat16; None where it is not given."""
        given = self.get("dtype") or self.get("torch_dtype")
        return str(given).removeprefix("torch.") if given else None


def shape_from_config(config: Config, parameters: int | None = None) -> Shape:
    """The shape; ``parameters`` if the weights' headers told, else counted from the shape.

    Raises ``WeightsError`` when a fact that everything hangs on is missing.
    """
    counted, active = count_parameters(config)
    window, windowed = _window(config)
    return Shape(
        architecture=config.architecture,
        parameters=parameters or counted,
        active_parameters=active if active != counted else None,
        layers=config.needed("layers"),
        hidden=config.needed("hidden"),
        heads=config.needed("heads"),
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        vocabulary=config.needed("vocabulary"),
        tied=bool(config.get("tie_word_embeddings")),
        experts=config.number("experts"),
        sliding_window=window,
        windowed_layers=windowed,
        latent_kv=config.latent_kv,
    )


def count_parameters(config: Config) -> tuple[int, int]:
    """Numbers in the weights: all, and those used for a token. Exact for llama-like models but for biases."""
    hidden, layers = config.needed("hidden"), config.needed("layers")
    embedding = config.needed("vocabulary") * hidden
    outer = embedding * (1 if config.get("tie_word_embeddings") else 2) + hidden
    attention = _latent_attention(config) if config.latent_kv else _attention(config)
    each = attention + 2 * hidden
    dense = _feed_forward(config, config.number("inner") or 4 * hidden)
    experts = config.number("experts")
    if not experts:
        total = outer + layers * (each + dense)
        return total, total
    expert = _feed_forward(config, config.number("expert_inner") or config.number("inner") or 4 * hidden)
    shared = expert * (config.number("shared_experts") or 0)
    shared += _feed_forward(config, int(config.get("shared_expert_intermediate_size") or 0))
    chosen = config.number("chosen_experts") or 1
    plain = min(layers, int(config.get("first_k_dense_replace") or 0))
    fixed = outer + layers * each + plain * dense + (layers - plain) * (shared + hidden * experts)
    return fixed + (layers - plain) * experts * expert, fixed + (layers - plain) * chosen * expert


def _attention(config: Config) -> int:
    heads, size = config.needed("heads"), config.head_size
    return config.needed("hidden") * size * (2 * heads + 2 * config.kv_heads)


def _latent_attention(config: Config) -> int:
    hidden, heads = config.needed("hidden"), config.needed("heads")
    rank, rope = int(config.get("kv_lora_rank")), int(config.get("qk_rope_head_dim") or 0)
    plain, value = int(config.get("qk_nope_head_dim") or 0), int(config.get("v_head_dim") or 0)
    queries = heads * (plain + rope)
    query_rank = config.get("q_lora_rank")
    query = query_rank * (hidden + queries) if query_rank else hidden * queries
    return query + hidden * (rank + rope) + rank * heads * (plain + value) + heads * value * hidden


def _feed_forward(config: Config, inner: int) -> int:
    return (2 if config.model_type in _UNGATED else 3) * config.needed("hidden") * inner


def _window(config: Config) -> tuple[int | None, int | None]:
    """Tokens that a windowed layer sees, and how many layers are; (None, None) when all see everything."""
    window = config.get("sliding_window")
    if not isinstance(window, int) or window <= 0 or window >= config.context:
        return None, None
    if config.get("use_sliding_window") is False:
        return None, None
    layers = config.needed("layers")
    kinds = config.get("layer_types")
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    if isinstance(kinds, list):
        windowed = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    elif isinstance(pattern, int) and pattern > 1:  # the last of every ``pattern`` layers sees everything
        windowed = layers - layers // pattern
    else:
        windowed = (
            layers - int(config.get("max_window_layers") or 0) if config.model_type == "qwen2" else layers
        )
    return (window, windowed) if windowed > 0 else (None, None)
