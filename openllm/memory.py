"""How many bytes a model needs: weights, KV cache and what an engine takes besides. Arithmetic only.

All sizes are bytes, all lengths tokens. Estimates err on the large side: a plan that fits here should start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

MIB, GIB = 1 << 20, 1 << 30

# Engines keep a sequence's cache in blocks of tokens; 128 is the largest block among ours (vLLM on CPUs).
BLOCK_TOKENS = 128

_SCALES = 8  # bytes of an 8 bit cache for each head and token: a float32 scale and zero point

# Resident size of each engine without weights and KV cache: interpreter, libraries, compiled kernels. Those of CPUs
# are measured (``python -m benchmarks.memory``); vLLM's is that of float32; bfloat16 took less (550). On a GPU it
# is the driver's context and the allocator's slack on each device, an estimate.
_BASE = {
    ("openvino", "cpu"): 180 * MIB,
    ("vllm", "cpu"): 800 * MIB,
    ("vllm", "cuda"): 1024 * MIB,
    ("transformers", "cpu"): 400 * MIB,
    ("transformers", "cuda"): 1024 * MIB,
    ("echo", "cpu"): 64 * MIB,
}
# Tokens that one step may run through the model at once; that of GPUs is vLLM's own default.
_STEP_TOKENS = {
    ("openvino", "cpu"): 256, ("vllm", "cpu"): 512, ("vllm", "cuda"): 2048,
    ("transformers", "cpu"): 512, ("transformers", "cuda"): 2048,
}  # fmt: skip
# Activations alive at once, in hidden sizes: those that every rank has (residual, norm), and those that ranks share
# out (queries, an MLP's gate and up).
_WHOLE_WIDTHS, _SHARED_WIDTHS = 4, 8
# vLLM captures a graph for each of these numbers of sequences; 0.4 MiB a layer by the log in its pull request 11349
# (16 layers, 35 graphs, 0.21 GiB).
_GRAPHS = 51
_GRAPH_LAYER_BYTES = int(0.4 * MIB)


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
    def tied(self) -> bool: ...
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


class Term(msgspec.Struct, frozen=True):
    """One sum of a plan's arithmetic: what it is, how it is reckoned, and what it comes to (in bytes)."""

    what: str
    sum: str
    bytes: int


class Part(NamedTuple):
    """So many numbers of so many bits."""

    numbers: int
    bits: float
    what: str = "parameters"


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


def weight_term(parts: Sequence[Part]) -> Term:
    """The weights as the sum of ``parts``."""
    text = " + ".join(
        f"{part.numbers:,} {part.what} x {part.bits:g} bits / 8" for part in parts if part.numbers
    )
    return Term("weights", text, sum(weight_bytes(part.numbers, part.bits) for part in parts))


def embedding_parameters(shape: ShapeFacts) -> int:
    """Numbers of the embedding and, unless they are the same, of the output matrix: what quantizers leave as floats."""
    return min(shape.parameters, shape.vocabulary * shape.hidden * (1 if shape.tied else 2))


def element_bytes(dtype: str) -> int:
    """Size of one number of the KV cache, without the scales of 8-bit caches."""
    if dtype in ("u8", "int8") or dtype.startswith("fp8"):
        return 1
    return 4 if dtype == "float32" else 2


def kv_bytes_per_token(shape: ShapeFacts, dtype: str) -> int:
    """Cache of one token in all layers, windowed ones counted as full: keys and values, or MLA's latent."""
    return _caching_layers(shape) * _layer_bytes(shape, dtype)


def kv_bytes(shape: ShapeFacts, tokens: int, dtype: str, *, vllm: bool) -> int:
    """Cache of one sequence of ``tokens``, in whole blocks.

    ``vllm`` drops what windowed layers no longer see, and keeps one block for itself; other engines do neither.
    """
    layer, layers = _layer_bytes(shape, dtype), _caching_layers(shape)
    spare = BLOCK_TOKENS if vllm else 0
    if not vllm or shape.sliding_window is None:
        return layers * layer * (_blocks(tokens) + spare)
    windowed = layers if shape.windowed_layers is None else min(shape.windowed_layers, layers)
    seen = min(_blocks(tokens), _blocks(shape.sliding_window) + BLOCK_TOKENS)
    return layer * ((layers - windowed) * (_blocks(tokens) + spare) + windowed * (seen + spare))


def longest_context(shape: ShapeFacts, budget: int, dtype: str, *, vllm: bool, limit: int) -> int:
    """Most tokens, up to ``limit``, of one sequence whose cache fits ``budget``; 0 if not one block does."""
    if kv_bytes(shape, limit, dtype, vllm=vllm) <= budget:
        return limit
    low, high = 0, limit // BLOCK_TOKENS  # in blocks: low fits, high + 1 does not
    while low < high:
        middle = (low + high + 1) // 2
        if kv_bytes(shape, middle * BLOCK_TOKENS, dtype, vllm=vllm) <= budget:
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


def kv_term(shape: ShapeFacts, dtype: str) -> Term:
    """The cache of one token as a sum."""
    size, layers = element_bytes(dtype), _caching_layers(shape)
    if shape.latent_kv is not None:
        text = f"{layers} layers x {shape.latent_kv} latent numbers x {size} B"
    else:
        head = (
            f"({shape.head_size} x {size} B + {_SCALES} B)" if size == 1 else f"{shape.head_size} x {size} B"
        )
        text = f"2 x {layers} layers x {shape.kv_heads} KV heads x {head}"
    return Term("KV cache of a token", text, kv_bytes_per_token(shape, dtype))


def overhead_terms(
    shape: ShapeFacts, engine: str, device: str, concurrency: int, *, devices: int = 1, eager: bool = True
) -> tuple[Term, ...]:
    """What the engine takes on one of ``devices`` besides weights and KV cache: itself, activations, logits, graphs.

    Without ``eager`` there are captured graphs on a GPU.
    """
    tokens = _STEP_TOKENS.get((engine, device), 0)
    base = _BASE[engine, device]
    terms = [Term("engine", f"{engine} on {device}, libraries and buffers: {base // MIB} MiB", base)]
    if tokens:
        width = 4 if device == "cpu" else 2
        shared = f"{_SHARED_WIDTHS} / {devices}" if devices > 1 else f"{_SHARED_WIDTHS}"
        terms.append(Term(
            "activations", f"{tokens:,} tokens x {shape.hidden:,} hidden x ({_WHOLE_WIDTHS} + {shared}) x {width} B",
            tokens * shape.hidden * (_WHOLE_WIDTHS * devices + _SHARED_WIDTHS) * width // devices,
        ))  # fmt: skip
        # Beside their probabilities. OpenVINO reckons those of every token of a step.
        rows, what = (tokens, "tokens") if engine == "openvino" else (concurrency, "sequences")
        terms.append(Term(
            "logits", f"{rows} {what} x {shape.vocabulary:,} words x 4 B x 2", rows * shape.vocabulary * 4 * 2,
        ))  # fmt: skip
    if device == "cuda" and not eager:
        terms.append(Term(
            "CUDA graphs", f"{_GRAPHS} graphs x {shape.layers} layers x {_GRAPH_LAYER_BYTES / MIB:.1f} MiB",
            _GRAPHS * shape.layers * _GRAPH_LAYER_BYTES,
        ))  # fmt: skip
    return tuple(terms)


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
    scales = _SCALES if size == 1 else 0
    return 2 * shape.kv_heads * (shape.head_size * size + scales)


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
