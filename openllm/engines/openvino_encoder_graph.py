"""A BERT-like encoder as an OpenVINO graph: token ids in, one vector a text out.

Attention looks both ways and there is no cache. Query, key and value are one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from openllm.engines.openvino_graph import Floats, MakeWeight, Node
from openllm.formats.sentence_model import Pooling

_LOWEST = -65504.0  # of f16: large enough to switch a place off, and a number in every precision
_ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "gelu": lambda node: op.gelu(node, "erf"),
    "gelu_new": lambda node: op.gelu(node, "tanh"),
    "gelu_pytorch_tanh": lambda node: op.gelu(node, "tanh"),
    "relu": op.relu,
    "silu": op.swish,
    "swish": op.swish,
    "tanh": op.tanh,
    "sigmoid": op.sigmoid,
    "identity": lambda node: node,
}
_HIDDEN = {"last_hidden_state", "token_embeddings"}
ACTIVATIONS = frozenset(_ACTIVATIONS)


class Linear(msgspec.Struct, frozen=True):
    """``matrix`` is [out, in]; then ``bias`` is added and ``activation`` applied."""

    matrix: Floats
    bias: Floats | None = None
    activation: str = "identity"


class Norm(msgspec.Struct, frozen=True):
    """Layer normalisation."""

    scale: Floats
    bias: Floats


class Encoder(msgspec.Struct, frozen=True, kw_only=True):
    """Shape: ``activation`` is that of the MLPs."""

    layers: int
    heads: int
    epsilon: float
    activation: str


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """``positions`` are [longest, hidden], the first row that of the first token; ``types`` [kinds, hidden], None
    where the model does not tell texts apart; ``relative`` [heads, longest, longest] is added to the attention's
    scores."""

    tokens: Floats
    positions: Floats
    types: Floats | None
    norm: Norm
    relative: Floats | None = None


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of one layer; it normalises after each of its two parts."""

    qkv: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    mlp_norm: Norm


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """From the last hidden states to the result: ``pooling`` of the tokens, ``layers``, and the length 1 if
    ``normalize``."""

    pooling: Pooling
    layers: Sequence[Linear] = ()
    normalize: bool = False


def build(
    encoder: Encoder, embeddings: Embeddings, layer: Callable[[int], Layer], head: Head, weight: MakeWeight
) -> ov.Model:
    """Build the model: ``input_ids``, ``attention_mask`` and, with types, ``token_type_ids``, int32
    [texts, tokens] -> ``vectors``, float32 [texts, width].

    ``layer(i)`` is called once per layer, in order.
    """
    ids, mask = _parameter("input_ids"), _parameter("attention_mask")
    inputs = [ids, mask]
    stream = op.gather(weight(embeddings.tokens, "embeddings"), ids, _int(0))
    length = op.gather(op.shape_of(ids, "i32"), _int(1), _int(0))
    places = op.range(_int(0), length, _int(1), "i32")
    stream = op.add(stream, op.gather(op.constant(embeddings.positions), places, _int(0)))
    if embeddings.types is not None:
        types = _parameter("token_type_ids")
        inputs.append(types)
        stream = op.add(stream, op.gather(op.constant(embeddings.types), types, _int(0)))
    stream = _norm(stream, embeddings.norm, encoder.epsilon)
    scores = _attention_mask(mask)
    if embeddings.relative is not None:
        rows = op.gather(op.constant(embeddings.relative), places, _int(1))
        scores = op.add(op.unsqueeze(op.gather(rows, places, _int(2)), _int(0)), scores)
    for index in range(encoder.layers):
        stream = _block(encoder, layer(index), f"layer{index}", weight, stream, scores)
    return _finished(stream, mask, head, inputs)


def add_head(model: ov.Model, head: Head) -> ov.Model:
    """Put ``head`` behind an exported model, whose ``hidden_states`` are [texts, tokens, hidden]."""
    hidden = hidden_states(model).get_node().input_value(0)
    mask = next(each for each in model.get_parameters() if "attention_mask" in each.output(0).get_names())
    return _finished(op.convert(hidden, "f32"), mask, head, model.get_parameters())


def hidden_states(model: ov.Model) -> Node:
    """The output with the last hidden states: by the names that exporters give it, else the first."""
    return next((each for each in model.outputs if _HIDDEN & each.get_names()), model.output(0))


def _finished(stream: Node, mask: Node, head: Head, inputs: list[Node]) -> ov.Model:
    vectors = _pooled(stream, mask, head.pooling)
    for linear in head.layers:
        vectors = _linear(vectors, linear, op.constant(linear.matrix))
    if head.normalize:
        vectors = op.normalize_l2(vectors, _int([1]), 1e-12, "max")
    vectors.output(0).set_names({"vectors"})
    return ov.Model([op.result(vectors, name="vectors")], inputs, "encoder")


def _block(encoder: Encoder, layer: Layer, name: str, weight: MakeWeight, stream: Node, scores: Node) -> Node:
    hidden = layer.output.matrix.shape[0]
    width = hidden // encoder.heads
    joint = _linear(stream, layer.qkv, weight(layer.qkv.matrix, f"{name}.qkv"))
    apart = op.reshape(joint, _longs([0, 0, 3, encoder.heads, width]), True)
    turned = op.transpose(apart, _int([2, 0, 3, 1, 4]))
    query, key, value = (op.gather(turned, _int(which), _int(0)) for which in range(3))
    attended = op.scaled_dot_product_attention(query, key, value, scores)
    together = op.reshape(op.transpose(attended, _int([0, 2, 1, 3])), _longs([0, 0, hidden]), True)
    added = op.add(stream, _linear(together, layer.output, weight(layer.output.matrix, f"{name}.output")))
    stream = _norm(added, layer.attention_norm, encoder.epsilon)
    inner = _linear(stream, layer.up, weight(layer.up.matrix, f"{name}.up"), encoder.activation)
    added = op.add(stream, _linear(inner, layer.down, weight(layer.down.matrix, f"{name}.down")))
    return _norm(added, layer.mlp_norm, encoder.epsilon)


def _pooled(stream: Node, mask: Node, pooling: Pooling) -> Node:
    """[texts, tokens, hidden] -> [texts, hidden]."""
    if pooling == "cls":
        return op.gather(stream, _int(0), _int(1))
    if pooling == "last":
        length = op.reduce_sum(op.convert(mask, "i32"), _int(1), True)
        return op.squeeze(op.gather(stream, op.subtract(length, _int(1)), _int(1), 1), _int([1]))
    weights = op.unsqueeze(op.convert(mask, "f32"), _int(2))
    total = op.reduce_sum(op.multiply(stream, weights), _int(1))
    return op.divide(total, op.reduce_sum(weights, _int(1)))


def _attention_mask(mask: Node) -> Node:
    """0 where there is a token, the lowest number elsewhere, [texts, 1, 1, tokens]."""
    there = op.unsqueeze(op.convert(mask, "f32"), _int([1, 2]))
    return op.multiply(op.subtract(there, _float(1)), _float(-_LOWEST))


def _linear(stream: Node, linear: Linear, matrix: Node, activation: str = "") -> Node:
    made = op.matmul(stream, matrix, False, True)
    if linear.bias is not None:
        made = op.add(made, op.constant(linear.bias))
    return _ACTIVATIONS[activation or linear.activation](made)


def _norm(stream: Node, norm: Norm, epsilon: float) -> Node:
    even = op.mvn(stream, _int([-1]), True, epsilon, "inside_sqrt")
    return op.add(op.multiply(even, op.constant(norm.scale)), op.constant(norm.bias))


def _parameter(name: str) -> Node:
    parameter = op.parameter([-1, -1], ov.Type.i32, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _int(values: int | list[int]) -> Any:
    return op.constant(np.array(values, np.int32))


def _longs(values: list[int]) -> Any:
    return op.constant(np.array(values, np.int64))


def _float(value: float) -> Any:
    array: NDArray[np.float32] = np.array(value, np.float32)
    return op.constant(array)
