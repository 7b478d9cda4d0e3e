"""Reads a folder of float safetensors, laid out as transformers', into the graph of ``openvino_graph``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import openvino as ov

from openllm.engines.openvino_graph import Decoder, Embeddings, Floats, Layer, MakeWeight, build
from openllm.engines.openvino_tensors import FolderTensors
from openllm.errors import CorruptFile, UnsupportedOption

# config.json's model_type of architectures whose layer is ``Layer``'s.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_HEAD = "lm_head.weight"


def read_folder_model(folder: Path, weight: MakeWeight) -> ov.Model:
    """Build the model of ``folder`` with its matrices stored by ``weight``. Blocks for seconds to minutes.

    Raises ``UnsupportedOption`` for what the graph does not know and ``CorruptFile`` for missing tensors.
    """
    return _Folder(folder).model(weight)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
        self._tensors = FolderTensors(folder)

    def model(self, weight: MakeWeight) -> ov.Model:
        self._check()
        tied = self._config.get("tie_word_embeddings", _HEAD not in self._tensors)
        decoder = self._decoder()
        model = build(
            decoder,
            Embeddings(
                tokens=self._read("model.embed_tokens.weight"),
                norm=self._read("model.norm.weight"),
                head=None if tied else self._read(_HEAD),
            ),
            self._layer,
            weight,
        )
        unused = sorted(
            name
            for name in self._tensors.names
            if name not in self._tensors.used and name != _HEAD and not name.endswith("rotary_emb.inv_freq")
        )
        if unused:
            self._refuse(f"it has tensors that the engine does not know, e.g. {unused[0]}")
        return model

    def _check(self) -> None:
        config = self._config
        if config.get("model_type") not in MODEL_TYPES:
            self._refuse(
                f"the architecture is {config.get('model_type')}; known are {', '.join(MODEL_TYPES)}"
            )
        window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        if window and window < int(config.get("max_position_embeddings") or 0):
            self._refuse("its attention has a sliding window, which the engine does not know")
        if config.get("hidden_act", "silu") != "silu" or config.get("mlp_bias"):
            self._refuse("its MLPs are not those that the engine knows")

    def _decoder(self) -> Decoder:
        config = self._config
        hidden, heads = self._number("hidden_size"), self._number("num_attention_heads")
        size = int(config.get("head_dim") or hidden // heads)
        return Decoder(
            layers=self._number("num_hidden_layers"),
            hidden=hidden,
            mlp=self._number("intermediate_size"),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=size,
            epsilon=float(config.get("rms_norm_eps") or 1e-6),
            rotations=self._rotations(size),
        )

    def _rotations(self, size: int) -> tuple[float, ...]:
        """Angles per position, scaled as Llama 3 or linearly if the config says so."""
        config = self._config
        rope = config.get("rope_parameters") or {}
        scaling = config.get("rope_scaling") or rope
        base = float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0)
        angles = base ** -(np.arange(0, size, 2, dtype=np.float64) / size)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if kind == "linear":
            angles /= float(scaling["factor"])
        elif kind == "llama3":
            angles = _llama3(angles, scaling)
        elif kind != "default":
            self._refuse(f"its rotary scaling is {kind}, which the engine does not know")
        return tuple(angles)

    def _layer(self, index: int) -> Layer:
        def read(name: str) -> Floats:
            return self._read(f"model.layers.{index}.{name}.weight")

        def maybe(name: str) -> Floats | None:
            full = f"model.layers.{index}.{name}"
            return self._read(full) if full in self._tensors else None

        names = [f"self_attn.{part}_proj" for part in "qkv"]
        biases = [bias for name in names if (bias := maybe(f"{name}.bias")) is not None]
        if len(biases) not in (0, 3) or maybe("self_attn.o_proj.bias") is not None:
            self._refuse(f"layer {index} has biases that the engine does not know")
        return Layer(
            attention_norm=read("input_layernorm"),
            qkv=np.concatenate([read(name) for name in names]),
            qkv_bias=np.concatenate(biases) if biases else None,
            query_norm=maybe("self_attn.q_norm.weight"),
            key_norm=maybe("self_attn.k_norm.weight"),
            output=read("self_attn.o_proj"),
            mlp_norm=read("post_attention_layernorm"),
            gate_up=np.concatenate([read("mlp.gate_proj"), read("mlp.up_proj")]),
            down=read("mlp.down_proj"),
        )

    def _read(self, name: str) -> Floats:
        return self._tensors.read(name)

    def _number(self, key: str) -> int:
        value = self._config.get(key)
        if not isinstance(value, int) or value <= 0:
            raise CorruptFile(f"config.json of {self._folder} has no usable {key}.", hint="Fetch it again.")
        return value

    def _refuse(self, why: str) -> NoReturn:
        raise UnsupportedOption(
            f"The openvino engine cannot run {self._folder.name}: {why}.",
            hint="Quantize it to gptq, awq, w8a8 or w4a16 for --backend vllm.",
            param="mode",
        )


def _llama3(angles: Any, scaling: dict[str, Any]) -> Any:
    """Llama 3.1's scaling: slow rotations divided by ``factor``, fast ones kept, those between mixed."""
    factor, length = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = length * angles / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return angles * (kept + (1 - kept) / factor)
