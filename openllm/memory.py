"""How many bytes a model needs: weights, KV cache and what an engine takes besides. Arithmetic only.

All sizes are bytes, all lengths tokens. Estimates err on the large side: a plan that fits here should start.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

MIB, GIB = 1 << 20, 1 << 30

# Engines keep a sequence's cache in blocks of tokens; 128 is the largest block among ours (vLLM on CPUs).
BLOCK_TOKENS = 128

# Resident size of each engine without weights and KV cache: interpreter, libraries, compiled kernels. On a
# GPU it is the context, the captured graphs and the allocator's slack on each device.
_BASE = {
    ("openvino", "cpu"): 450 * MIB,
    ("vllm", "cpu"): 1500 * MIB,
    ("vllm", "cuda"): 1536 * MIB,
    ("transformers", "cpu"): 600 * MIB,
    ("transformers", "cuda"): 1024 * MIB,
    ("echo", "cpu"): 64 * MIB,
}
# Tokens that one step may run through the model at once.
_STEP_TOKENS = {
    ("openvino", "cpu"): 512, ("vllm", "cpu"): 4096, ("vllm", "cuda"): 8192,
    ("transformers", "cpu"): 512, ("transformers", "cuda"): 2048,
}  # fmt: skip
# Width of the widest activation (an MLP's gate and up) and those alive beside it, in hidden sizes.
_LIVE_WIDTHS = 12


class ShapeFacts(Protocol):
    """The part of ``weights.manifest.Shape`` that decides sizes."""

    @property
    def parameters(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_size(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def sliding_window(self) -> int | None: ...
    @property
    def windowed_layers(self) -> int | None: ...
    @property
    def attention_layers(self) -> int | None: ...
    @property
    def experts(self) -> int | None: ...
    @property
    def latent_kv(self) -> int | None: ...


class Footprint(NamedTuple):
    """What one device must hold."""

    weights: int
    kv_cache: int
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.overhead


class Fit(NamedTuple):
    """A footprint against the bytes that are free."""

    needed: int
    free: int

    @property
    def ok(self) -> bool:
        return self.needed <= self.free

    @property
    def missing(self) -> int:
        """Bytes too few; 0 if it fits."""
        return max(0, self.needed - self.free)


def fit(footprint: Footprint, free: int) -> Fit:
    return Fit(footprint.total, free)


def weight_bytes(parameters: int, bits: float) -> int:
    """Size of ``parameters`` weights of ``bits`` each."""
    return int(parameters * bits / 8)


def element_bytes(dtype: str) -> int:
    """Size of one number of the KV cache, without the scales of 8-bit caches."""
    if dtype in ("u8", "int8") or dtype.startswith("fp8"):
        return 1
    return 4 if dtype == "float32" else 2


def kv_bytes_per_token(shape: ShapeFacts, dtype: str) -> int:
    """Cache of one token in all layers, windowed ones counted as full: keys and values, or MLA's latent."""
    return _caching_layers(shape) * _layer_bytes(shape, dtype)


def kv_bytes(shape: ShapeFacts, tokens: int, dtype: str, *, windows: bool) -> int:
    """Cache of one sequence of ``tokens``, in whole blocks.

    With ``windows`` the engine drops what windowed layers no longer see; else they keep all.
    """
    layer, layers = _layer_bytes(shape, dtype), _caching_layers(shape)
    if not windows or shape.sliding_window is None:
        return layers * layer * _blocks(tokens)
    windowed = layers if shape.windowed_layers is None else min(shape.windowed_layers, layers)
    seen = min(_blocks(tokens), _blocks(shape.sliding_window) + BLOCK_TOKENS)
    return layer * ((layers - windowed) * _blocks(tokens) + windowed * seen)


def longest_context(shape: ShapeFacts, budget: int, dtype: str, *, windows: bool, limit: int) -> int:
    """Most tokens, up to ``limit``, of one sequence whose cache fits ``budget``; 0 if not one block does."""
    if kv_bytes(shape, limit, dtype, windows=windows) <= budget:
        return limit
    low, high = 0, limit // BLOCK_TOKENS  # in blocks: low fits, high + 1 does not
    while low < high:
        middle = (low + high + 1) // 2
        if kv_bytes(shape, middle * BLOCK_TOKENS, dtype, windows=windows) <= budget:
            low = middle
        else:
            high = middle - 1
    return low * BLOCK_TOKENS


def kv_share(shape: ShapeFacts, devices: int) -> float:
    """The part of the KV cache that each of ``devices`` tensor parallel ranks holds.

    Heads are split; an MLA latent, or a head when there are fewer heads than ranks, is kept by every rank.
    """
    if shape.latent_kv is not None:
        return 1.0
    return max(1, -(-shape.kv_heads // devices)) / shape.kv_heads


def overhead_bytes(shape: ShapeFacts, engine: str, device: str, concurrency: int) -> int:
    """What the engine takes on one device besides weights and KV cache: itself, activations, and logits."""
    tokens = _STEP_TOKENS.get((engine, device), 0)
    width = 4 if device == "cpu" else 2
    activations = tokens * shape.hidden * _LIVE_WIDTHS * width
    logits = concurrency * shape.vocabulary * 4 * 2 if tokens else 0  # in float32, beside their probabilities
    return _BASE[engine, device] + activations + logits


def adapter_bytes(shape: ShapeFacts, rank: int, dtype: str) -> int:
    """Room that a LoRA adapter of ``rank`` on every matrix takes in an engine that keeps a place for it.

    Each matrix of the model has rank x (inputs + outputs) numbers beside it. The width of the MLPs, which no one
    tells, follows from the number of weights.
    """
    hidden, width = shape.hidden, 4 if dtype == "float32" else 2
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    vocabulary = shape.vocabulary * hidden
    attention = 2 * hidden * (queries + keys)
    mlp = max(0, (shape.parameters - vocabulary) // max(1, shape.layers) - attention)
    inner = mlp // (3 * hidden)
    experts = shape.experts or 1
    per_layer = (3 * hidden + 2 * keys + queries) + (queries + hidden) + 3 * (experts * hidden + inner)
    return rank * (shape.layers * per_layer + 2 * (shape.vocabulary + hidden)) * width


def readable(size: int) -> str:
    """A size for people: "118.4 MiB", "1.5 GiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _caching_layers(shape: ShapeFacts) -> int:
    """Hybrids cache keys and values in some layers only; the state of the others is small."""
    return shape.layers if shape.attention_layers is None else min(shape.attention_layers, shape.layers)


def _layer_bytes(shape: ShapeFacts, dtype: str) -> int:
    size = element_bytes(dtype)
    if shape.latent_kv is not None:
        return shape.latent_kv * size
    scales = 8 if size == 1 else 0  # a float32 scale and zero point for each head
    return 2 * shape.kv_heads * (shape.head_size * size + scales)


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
