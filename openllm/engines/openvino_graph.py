"""A Llama-like decoder as an OpenVINO graph, in the form that GenAI's paged attention recognises.

The attention is written with explicit state (ReadValue, Gather by ``beam_idx``, Concat, Assign) around
ScaledDotProductAttention: GenAI replaces that by paged attention. Query, key and value are one product, gate
and up another: on a CPU each product of one token costs a synchronisation of all threads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from math import gcd
from typing import Any

import msgspec
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

Floats = NDArray[np.float32]
Node = Any
MakeWeight = Callable[[Floats, str], Node]
"""Turns an array [out, in] and its name into a node of f32 [out, in], stored in whatever form."""


_CONSTANTS: ContextVar[dict[Any, Node]] = ContextVar("constants of the model being built")
_END = int(np.iinfo(np.int64).max)


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of the decoder; ``mlp`` is the width inside its MLPs, ``rotations`` the ``head_size / 2`` angles
    in radians per position."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    rotations: tuple[float, ...]


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of one layer, float32; matrices are [out, in]. Biases and head norms are None if it has none."""

    attention_norm: Floats
    qkv: Floats
    qkv_bias: Floats | None
    query_norm: Floats | None
    key_norm: Floats | None
    output: Floats
    mlp_norm: Floats
    gate_up: Floats
    down: Floats


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Weights outside the layers; ``head`` is None if it is the embedding again."""

    tokens: Floats
    norm: Floats
    head: Floats | None


def build(
    decoder: Decoder, embeddings: Embeddings, layer: Callable[[int], Layer], weight: MakeWeight
) -> ov.Model:
    """Build the model: ``input_ids``, ``attention_mask``, ``position_ids`` [batch, tokens] -> ``logits``.

    ``layer(i)`` is called once per layer, in order, so that one layer's weights are in memory at a time.
    """
    _CONSTANTS.set({})
    inputs = _Inputs()
    table = weight(embeddings.tokens, "embeddings")
    stream = op.gather(table, op.convert(inputs.ids, "i32"), _ints(0))
    rotary = _rotary(decoder, inputs)
    mask = _causal_mask(inputs)
    sinks: list[Node] = []
    for index in range(decoder.layers):
        stream = _Block(decoder, layer(index), index, weight, inputs, sinks).apply(stream, rotary, mask)
    stream = _rms_norm(stream, embeddings.norm, decoder.epsilon)
    head = table if embeddings.head is None else weight(embeddings.head, "head")
    logits = op.matmul(stream, head, False, True)
    logits.output(0).set_names({"logits"})
    model = ov.Model([op.result(logits, name="logits")], sinks, inputs.all(), "decoder")
    model.set_rt_info(str(_activation_group(decoder)), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    return model


def _activation_group(decoder: Decoder) -> int:
    """How many activations the CPU plugin quantizes with one scale before a product with int8 weights.

    Its default is 32. Measured on SmolLM2-135M: 96 takes 8 % off a step of one sequence and 13 % off one of 64,
    and perplexity rises by 1.1 %, to 0.5 % over float32's; 192 goes no faster and costs 1.3 % more.
    """
    width = gcd(decoder.hidden, decoder.mlp, decoder.heads * decoder.head_size)
    return next((group for group in (96, 64) if width % group == 0), 32)


class _Inputs:
    def __init__(self) -> None:
        self.ids = _parameter("input_ids", [-1, -1], "i64")
        self.attention_mask = _parameter("attention_mask", [-1, -1], "i64")
        self.positions = _parameter("position_ids", [-1, -1], "i64")
        self.beams = _parameter("beam_idx", [-1], "i32")
        self.batch = op.gather(op.shape_of(self.ids), _ints([0]), _ints(0))

    def all(self) -> list[Node]:
        return [self.ids, self.attention_mask, self.positions, self.beams]


class _Block:
    """One layer: attention and MLP, each added to the stream."""

    def __init__(
        self,
        decoder: Decoder,
        layer: Layer,
        index: int,
        weight: MakeWeight,
        inputs: _Inputs,
        sinks: list[Node],
    ) -> None:
        self._decoder = decoder
        self._layer = layer
        self._name = f"layer{index}"
        self._weight = weight
        self._inputs = inputs
        self._sinks = sinks

    def apply(self, stream: Node, rotary: tuple[Node, Node], mask: Node) -> Node:
        layer, epsilon = self._layer, self._decoder.epsilon
        attended = self._attention(_rms_norm(stream, layer.attention_norm, epsilon), rotary, mask)
        stream = op.add(stream, attended)
        return op.add(stream, self._mlp(_rms_norm(stream, layer.mlp_norm, epsilon)))

    def _product(self, stream: Node, matrix: Floats, name: str) -> Node:
        return op.matmul(stream, self._weight(matrix, f"{self._name}.{name}"), False, True)

    def _mlp(self, stream: Node) -> Node:
        width = self._layer.gate_up.shape[0] // 2
        both = self._product(stream, self._layer.gate_up, "gate_up")
        gate, up = op.variadic_split(both, _ints(-1), _ints([width, width])).outputs()
        return self._product(op.multiply(op.swish(gate), up), self._layer.down, "down")

    def _attention(self, stream: Node, rotary: tuple[Node, Node], mask: Node) -> Node:
        decoder = self._decoder
        query_width, key_width = decoder.heads * decoder.head_size, decoder.kv_heads * decoder.head_size
        joint = self._product(stream, self._layer.qkv, "qkv")
        if self._layer.qkv_bias is not None:
            joint = op.add(joint, _floats(self._layer.qkv_bias.reshape(1, 1, -1)))
        split = op.variadic_split(joint, _ints(-1), _ints([query_width, key_width, key_width]))
        query, key, value = split.outputs()
        query = _rotate(self._heads(query, decoder.heads, self._layer.query_norm), rotary, decoder.head_size)
        key = _rotate(self._heads(key, decoder.kv_heads, self._layer.key_norm), rotary, decoder.head_size)
        keys = self._repeat(self._remember(key, "key"))
        values = self._repeat(self._remember(self._heads(value, decoder.kv_heads, None), "value"))
        mixed = op.scaled_dot_product_attention(query, keys, values, mask)
        joined = op.reshape(op.transpose(mixed, _ints([0, 2, 1, 3])), _ints([0, 0, query_width]), True)
        return self._product(joined, self._layer.output, "output")

    def _heads(self, joint: Node, heads: int, norm: Floats | None) -> Node:
        """[batch, tokens, heads * size] -> [batch, heads, tokens, size]."""
        split = op.reshape(joint, _ints([0, 0, heads, self._decoder.head_size]), True)
        if norm is not None:
            split = _rms_norm(split, norm, self._decoder.epsilon)
        return op.transpose(split, _ints([0, 2, 1, 3]))

    def _remember(self, new: Node, kind: str) -> Node:
        """Append to the state of this layer's keys or values and return all of it."""
        decoder = self._decoder
        shape = op.concat(
            [self._inputs.batch, _ints([decoder.kv_heads]), _ints([0]), _ints([decoder.head_size])], 0
        )
        name = f"past_key_values.{self._name}.{kind}"
        state_shape = ov.PartialShape([-1, decoder.kv_heads, -1, decoder.head_size])
        past = op.read_value(op.broadcast(_float(0), shape), name, ov.Type.f32, state_shape)
        all_ = op.concat([op.gather(past, self._inputs.beams, _ints(0)), new], -2)
        self._sinks.append(op.assign(all_, name))
        return all_

    def _repeat(self, state: Node) -> Node:
        """Give every query head a copy of its key head: [b, kv, t, s] -> [b, heads, t, s]."""
        decoder = self._decoder
        if decoder.heads == decoder.kv_heads:
            return state
        times = decoder.heads // decoder.kv_heads
        # Dimensions of 1 broadcast both ways: only the copies' axis grows.
        grown = op.broadcast(
            op.unsqueeze(state, _ints(2)), _ints([1, 1, times, 1, 1]), broadcast_spec="BIDIRECTIONAL"
        )
        return op.reshape(grown, _ints([0, decoder.heads, -1, decoder.head_size]), True)


def _rotary(decoder: Decoder, inputs: _Inputs) -> tuple[Node, Node]:
    """Cosine and sine of every position's angles, [batch, 1, tokens, head_size]."""
    rotations = np.array(decoder.rotations, np.float32).reshape(1, -1, 1)
    one = _ints([1])
    grown = op.broadcast(
        _floats(rotations), op.concat([inputs.batch, one, one], 0), broadcast_spec="BIDIRECTIONAL"
    )
    positions = op.convert(op.unsqueeze(inputs.positions, _ints(1)), "f32")
    half = op.transpose(op.matmul(grown, positions, False, False), _ints([0, 2, 1]))
    angles = op.concat([half, half], -1)
    return op.unsqueeze(op.cos(angles), _ints(1)), op.unsqueeze(op.sin(angles), _ints(1))


def _rotate(heads: Node, rotary: tuple[Node, Node], size: int) -> Node:
    cosine, sine = rotary
    half, end, one, axis = _ints([size // 2]), _ints([_END]), _ints([1]), _ints([3])
    negative = op.multiply(op.slice(heads, half, end, one, axis), _float(-1, rank=4))
    turned = op.concat([negative, op.slice(heads, _ints([0]), half, one, axis)], -1)
    return op.add(op.multiply(heads, cosine), op.multiply(turned, sine))


def _causal_mask(inputs: _Inputs) -> Node:
    """0 where a position may look, the lowest f16 elsewhere, [batch, 1, tokens, all tokens]."""
    length = op.gather(op.shape_of(inputs.attention_mask), _ints(1), _ints(0))
    places = op.range(_ints(0), length, _ints(1), "i64")
    own = op.unsqueeze(op.unsqueeze(inputs.positions, _ints(1)), _ints(3))
    seen = op.less_equal(places, own)
    return op.select(seen, _float(0), _float(-65504))


def _rms_norm(stream: Node, scale: Floats, epsilon: float) -> Node:
    square = op.reduce_mean(op.power(stream, _float(2)), _ints([-1]), True)
    root = op.sqrt(op.add(square, _float(epsilon)))
    return op.multiply(op.multiply(stream, op.divide(_float(1), root)), _floats(scale))


def _parameter(name: str, shape: list[int], kind: str) -> Node:
    parameter = op.parameter(shape, getattr(ov.Type, kind), name=name)
    parameter.output(0).set_names({name})
    return parameter


def _ints(values: int | list[int]) -> Node:
    shape = () if isinstance(values, int) else (len(values),)
    return _shared("i64", shape, (values,) if isinstance(values, int) else tuple(values))


def _float(value: float, rank: int = 0) -> Node:
    return _shared("f32", (1,) * rank, (value,))


def _floats(values: Floats) -> Node:
    return op.constant(values)


def _shared(kind: str, shape: tuple[int, ...], values: tuple[float, ...]) -> Node:
    """One node for equal constants of a model: loading a graph takes as long as it has nodes."""
    constants = _CONSTANTS.get()
    key = (kind, shape, values)
    if key not in constants:
        dtype = np.int64 if kind == "i64" else np.float32
        constants[key] = op.constant(np.array(values, dtype).reshape(shape))
    return constants[key]
