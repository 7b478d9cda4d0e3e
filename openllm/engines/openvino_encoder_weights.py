"""Reads a folder of safetensors into the graph of ``openvino_encoder_graph``: BERT and what was made from it.

Names of tensors and settings are those of transformers' models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import openvino as ov

from openllm.engines.base import EncoderSteps
from openllm.engines.openvino_encoder_graph import (
    ACTIVATIONS,
    Embeddings,
    Encoder,
    Head,
    Layer,
    Linear,
    Norm,
    build,
)
from openllm.engines.openvino_graph import Floats, MakeWeight
from openllm.engines.openvino_tensors import FolderTensors
from openllm.errors import CorruptFile, UnsupportedOption

_ROBERTA = ("roberta", "xlm-roberta", "camembert")
_KINDS = ("bert", *_ROBERTA, "distilbert", "mpnet")
_DENSE_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}


class _Names(msgspec.Struct, frozen=True):
    """Where a kind keeps the parts of a layer, relative to the layer."""

    layers: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    mlp_norm: str = "output.LayerNorm"


_BERT_NAMES = _Names()
_NAMES = {
    "mpnet": _Names(query="attention.attn.q", key="attention.attn.k", value="attention.attn.v",
                    output="attention.attn.o", attention_norm="attention.LayerNorm"),
    "distilbert": _Names(layers="transformer.layer", query="attention.q_lin", key="attention.k_lin",
                         value="attention.v_lin", output="attention.out_lin", attention_norm="sa_layer_norm",
                         up="ffn.lin1", down="ffn.lin2", mlp_norm="output_layer_norm"),
}  # fmt: skip


class _Settings(msgspec.Struct):
    """The keys of config.json that decide the graph; DistilBERT has names of its own."""

    model_type: str = ""
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    n_layers: int = 0
    n_heads: int = 0
    hidden_act: str = "gelu"
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    position_embedding_type: str = "absolute"
    pad_token_id: int | None = None
    relative_attention_num_buckets: int = 32
    is_decoder: bool = False


def read_model(folder: Path, wanted: EncoderSteps, weight: MakeWeight) -> ov.Model:
    """Build the model of a folder, its matrices stored by ``weight``. Blocks for seconds.

    Raises ``UnsupportedOption`` for an architecture that the graph does not know and ``CorruptFile`` for missing
    or misshapen tensors.
    """
    try:
        settings = msgspec.json.decode((folder / "config.json").read_bytes(), type=_Settings)
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptFile(
            f"{folder / 'config.json'} cannot be read: {error}.", hint="Fetch it again."
        ) from error
    return _Reader(folder, settings).model(wanted, weight)


class _Reader:
    def __init__(self, folder: Path, settings: _Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._kind = settings.model_type
        self._names = _NAMES.get(self._kind, _BERT_NAMES)
        self._tensors = FolderTensors(folder)
        first = next((name for name in self._tensors.names if name.endswith("word_embeddings.weight")), None)
        if self._kind not in _KINDS or first is None:
            self._refuse(f"the architecture is {self._kind or 'not told'}; known are {', '.join(_KINDS)}")
        self._prefix = first.removesuffix("embeddings.word_embeddings.weight")  # "" or "bert." and the like

    def model(self, wanted: EncoderSteps, weight: MakeWeight) -> ov.Model:
        settings = self._settings
        activation = settings.activation if self._kind == "distilbert" else settings.hidden_act
        if settings.position_embedding_type != "absolute" or activation not in ACTIVATIONS:
            self._refuse(
                f"its positions are {settings.position_embedding_type}, its activation is {activation}"
            )
        if settings.is_decoder:
            self._refuse("it is a decoder")
        encoder = Encoder(
            layers=settings.num_hidden_layers or settings.n_layers,
            heads=settings.num_attention_heads or settings.n_heads,
            epsilon=settings.layer_norm_eps,
            activation=activation,
        )
        head = self._scores(wanted) if wanted.task == "rerank" else self._vectors(wanted)
        pairs = wanted.task == "rerank"
        return build(encoder, self._embeddings(pairs), self._layer, head, weight)

    def _embeddings(self, pairs: bool) -> Embeddings:
        positions = self._read("embeddings.position_embeddings.weight")
        if self._kind in (*_ROBERTA, "mpnet"):  # the first rows are those of padding
            pad = self._settings.pad_token_id if self._kind in _ROBERTA else 1
            positions = positions[(1 if pad is None else pad) + 1 :]
        types = None
        if f"{self._prefix}embeddings.token_type_embeddings.weight" in self._tensors:
            types = self._read("embeddings.token_type_embeddings.weight")
            if len(types) == 1 or not pairs:  # always the first
                positions, types = positions + types[0], None
        return Embeddings(
            tokens=self._read("embeddings.word_embeddings.weight"),
            positions=positions,
            types=types,
            norm=self._norm("embeddings.LayerNorm"),
            relative=self._relative(len(positions)) if self._kind == "mpnet" else None,
        )

    def _layer(self, index: int) -> Layer:
        names = self._names
        at = f"{names.layers}.{index}"
        parts = [self._linear(f"{at}.{name}") for name in (names.query, names.key, names.value)]
        biases = [part.bias for part in parts if part.bias is not None]
        return Layer(
            qkv=Linear(np.concatenate([part.matrix for part in parts]), np.concatenate(biases)),
            output=self._linear(f"{at}.{names.output}"),
            attention_norm=self._norm(f"{at}.{names.attention_norm}"),
            up=self._linear(f"{at}.{names.up}"),
            down=self._linear(f"{at}.{names.down}"),
            mlp_norm=self._norm(f"{at}.{names.mlp_norm}"),
        )

    def _vectors(self, wanted: EncoderSteps) -> Head:
        steps = wanted.steps
        return Head(
            pooling=steps.pooling,
            layers=[dense_layer(self._folder / path) for path in steps.dense],
            normalize=steps.normalize,
        )

    def _scores(self, wanted: EncoderSteps) -> Head:
        """The classifier's own layers on the first token."""
        match self._kind:
            case "bert":
                layers = [self._linear("pooler.dense", "tanh"), self._linear("classifier", whole=True)]
            case "distilbert":
                layers = [
                    self._linear("pre_classifier", "relu", whole=True),
                    self._linear("classifier", whole=True),
                ]
            case _:
                layers = [
                    self._linear("classifier.dense", "tanh", whole=True),
                    self._linear("classifier.out_proj", whole=True),
                ]
        last = layers[-1]
        if len(last.matrix) != 1:
            self._refuse(f"it is a classifier of {len(last.matrix)} classes, not a reranker")
        layers[-1] = Linear(last.matrix, last.bias, wanted.activation)
        return Head(pooling="cls", layers=layers)

    def _relative(self, longest: int) -> Floats:
        """MPNet's bias of each head by the distance of two tokens: T5's buckets, both ways."""
        table = self._read("encoder.relative_attention_bias.weight")
        half = self._settings.relative_attention_num_buckets // 2
        exact, far = half // 2, 128
        distance = np.arange(longest)[None, :] - np.arange(longest)[:, None]
        away = np.abs(distance)
        ratio = np.log(np.maximum(away, 1).astype(np.float32) / exact) / np.float32(np.log(far / exact))
        logarithmic = np.minimum(exact + (ratio * (half - exact)).astype(np.int64), half - 1)
        bucket = np.where(away < exact, away, logarithmic) + np.where(distance > 0, half, 0)
        return np.ascontiguousarray(table[bucket].transpose(2, 0, 1))

    def _linear(self, name: str, activation: str = "identity", *, whole: bool = False) -> Linear:
        read: Callable[[str], Floats] = self._tensors.read if whole else self._read
        return Linear(read(f"{name}.weight"), read(f"{name}.bias"), activation)

    def _norm(self, name: str) -> Norm:
        if f"{self._prefix}{name}.gamma" in self._tensors:  # as the first BERT's files have it
            return Norm(self._read(f"{name}.gamma"), self._read(f"{name}.beta"))
        return Norm(self._read(f"{name}.weight"), self._read(f"{name}.bias"))

    def _read(self, name: str) -> Floats:
        return self._tensors.read(self._prefix + name)

    def _refuse(self, why: str) -> NoReturn:
        raise UnsupportedOption(
            f"The openvino engine cannot encode with {self._folder.name}: {why}.",
            hint="Use --backend vllm.",
            param="backend",
        )


def dense_layer(folder: Path) -> Linear:
    """sentence-transformers' Dense step. Raises ``UnsupportedOption`` and ``CorruptFile``."""
    try:
        settings: dict[str, Any] = msgspec.json.decode(
            (folder / "config.json").read_bytes(), type=dict[str, Any]
        )
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptFile(
            f"{folder / 'config.json'} cannot be read: {error}.", hint="Fetch it again."
        ) from error
    named = str(settings.get("activation_function") or "Tanh").rpartition(".")[2]
    if named not in _DENSE_ACTIVATIONS:
        raise UnsupportedOption(
            f"The openvino engine has no dense layer with {named}.",
            hint="Use --backend vllm.",
            param="backend",
        )
    tensors = FolderTensors(folder)
    bias = tensors.read("linear.bias") if "linear.bias" in tensors else None
    return Linear(tensors.read("linear.weight"), bias, _DENSE_ACTIVATIONS[named])
