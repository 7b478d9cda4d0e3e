"""Reads a GGUF file into the OpenVINO graph of ``openvino_graph``, every tensor dequantized exactly."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NoReturn

import numpy as np
import openvino as ov

from openllm.engines.openvino_graph import Decoder, Embeddings, Floats, Layer, MakeWeight, build
from openllm.errors import CorruptFile, UnsupportedOption
from openllm.formats.gguf_header import GgufHeader, TensorInfo, read_header

# Architectures whose layer is _Layer's: rotated halves, RMS norms, gated SiLU.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# Metadata that would change the computation and that the graph does not know.
_FOREIGN = ("expert_count", "attention.sliding_window", "attention.scale", "attention.clamp_kqv",
            "attn_logit_softcapping", "logit_scale", "residual_scale", "embedding_scale")  # fmt: skip
_ROTATION_SCALINGS = ("none", "linear")


def read_model(path: Path, weight: MakeWeight) -> ov.Model:
    """Build the model of a .gguf file with its matrices stored by ``weight``.

    Blocks for seconds; holds the stored form and one layer's float32 in memory. Raises ``UnsupportedOption``
    for an architecture that the graph does not know and ``CorruptFile`` for missing or misshapen tensors.
    """
    return _Gguf(path).model(weight)


class _Gguf:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: GgufHeader = read_header(path, skip_arrays=True)
        self._tensors = {tensor.name: tensor for tensor in self._header.tensors}
        self._arch = str(self._header.metadata.get("general.architecture"))

    def model(self, weight: MakeWeight) -> ov.Model:
        self._check()
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Tensors(data, self._header.data_offset)
            decoder = self._decoder(reader)
            model = build(
                decoder,
                Embeddings(
                    tokens=self._read(reader, "token_embd.weight"),
                    norm=self._read(reader, "output_norm.weight"),
                    head=self._maybe(reader, "output.weight"),
                ),
                lambda index: self._layer(reader, index, decoder),
                weight,
            )
        used = reader.used | {"rope_freqs.weight"}
        unused = sorted(set(self._tensors) - used)
        if unused:
            self._refuse(f"it has tensors that the engine does not know, e.g. {unused[0]}")
        return model

    def _check(self) -> None:
        if self._arch not in ARCHITECTURES:
            self._refuse(f"the architecture is {self._arch}; known are {', '.join(ARCHITECTURES)}")
        for key in _FOREIGN:
            if self._header.metadata.get(f"{self._arch}.{key}"):
                self._refuse(f"it sets {key}, which the engine does not know")
        scaling = self._header.metadata.get(f"{self._arch}.rope.scaling.type", "none")
        if scaling not in _ROTATION_SCALINGS:
            self._refuse(f"its rotary scaling is {scaling}, which the engine does not know")

    def _decoder(self, reader: _Tensors) -> Decoder:
        hidden, heads = self._number("embedding_length"), self._number("attention.head_count")
        size = self._number("attention.key_length", hidden // heads)
        rotated = self._number("rope.dimension_count", size)
        if rotated != size or self._number("attention.value_length", size) != size:
            self._refuse("it rotates a part of each head only, or has values of another size than keys")
        return Decoder(
            layers=self._number("block_count"),
            hidden=hidden,
            mlp=self._number("feed_forward_length"),
            heads=heads,
            kv_heads=self._number("attention.head_count_kv", heads),
            head_size=size,
            epsilon=self._float("attention.layer_norm_rms_epsilon"),
            rotations=self._rotations(reader, size),
        )

    def _rotations(self, reader: _Tensors, size: int) -> tuple[float, ...]:
        """Angles per position; ``rope_freqs`` holds the divisors of Llama 3's scaling."""
        base = self._float("rope.freq_base", 10000.0)
        angles = base ** -(np.arange(0, size, 2, dtype=np.float64) / size)
        angles /= self._float("rope.scaling.factor", 1.0) if self._scales_linearly() else 1.0
        divisors = self._maybe(reader, "rope_freqs.weight")
        return tuple(angles if divisors is None else angles / divisors.astype(np.float64))

    def _scales_linearly(self) -> bool:
        return self._header.metadata.get(f"{self._arch}.rope.scaling.type") == "linear"

    def _layer(self, reader: _Tensors, index: int, decoder: Decoder) -> Layer:
        def read(name: str) -> Floats:
            return self._read(reader, f"blk.{index}.{name}.weight")

        query, key = read("attn_q"), read("attn_k")
        biases = [self._maybe(reader, f"blk.{index}.attn_{name}.bias") for name in ("q", "k", "v")]
        if self._arch == "llama":  # llama.cpp stores rotated pairs side by side
            query, key = _halves(query, decoder.heads), _halves(key, decoder.kv_heads)
            if biases[0] is not None and biases[1] is not None:
                biases[:2] = _halves(biases[0], decoder.heads), _halves(biases[1], decoder.kv_heads)
        present = [bias for bias in biases if bias is not None]
        if len(present) not in (0, 3):
            self._refuse(f"layer {index} has biases on some of query, key and value only")
        return Layer(
            attention_norm=read("attn_norm"),
            qkv=np.concatenate([query, key, read("attn_v")]),
            qkv_bias=np.concatenate(present) if present else None,
            query_norm=self._maybe(reader, f"blk.{index}.attn_q_norm.weight"),
            key_norm=self._maybe(reader, f"blk.{index}.attn_k_norm.weight"),
            output=read("attn_output"),
            mlp_norm=read("ffn_norm"),
            gate_up=np.concatenate([read("ffn_gate"), read("ffn_up")]),
            down=read("ffn_down"),
        )

    def _read(self, reader: _Tensors, name: str) -> Floats:
        if name not in self._tensors:
            raise CorruptFile(f"{self._path} lacks the tensor {name}.", hint="Fetch the file again.")
        return reader.read(self._tensors[name])

    def _maybe(self, reader: _Tensors, name: str) -> Floats | None:
        return reader.read(self._tensors[name]) if name in self._tensors else None

    def _number(self, key: str, default: int | None = None) -> int:
        value = self._header.metadata.get(f"{self._arch}.{key}", default)
        if not isinstance(value, int) or value <= 0:
            raise CorruptFile(f"{self._path} has no usable {self._arch}.{key}.", hint="Fetch the file again.")
        return value

    def _float(self, key: str, default: float | None = None) -> float:
        value = self._header.metadata.get(f"{self._arch}.{key}", default)
        if not isinstance(value, float | int) or value <= 0:
            raise CorruptFile(f"{self._path} has no usable {self._arch}.{key}.", hint="Fetch the file again.")
        return float(value)

    def _refuse(self, why: str) -> NoReturn:
        raise UnsupportedOption(
            f"The openvino engine cannot run {self._path.name}: {why}.",
            hint="Use --backend vllm, or an OpenVINO IR folder of the model.",
            param="backend",
        )


class _Tensors:
    """Dequantizes tensors of a mapped file and remembers which were asked for."""

    def __init__(self, data: mmap.mmap, start: int) -> None:
        self._data = data
        self._start = start
        self.used: set[str] = set()

    def read(self, tensor: TensorInfo) -> Floats:
        # Imported here: the package takes over a second, and a converted model needs none of it.
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        self.used.add(tensor.name)
        begin = self._start + tensor.offset
        raw = np.frombuffer(self._data[begin : begin + tensor.bytes], np.uint8)
        kind = GGMLQuantizationType[tensor.type]
        rows = tensor.shape[1:][::-1]
        if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            typed = raw.view(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)
            return typed.reshape(tensor.shape[::-1]).astype(np.float32)
        values: Floats = dequantize(raw.reshape(*rows, -1), kind)
        return values.astype(np.float32, copy=False)


def _halves(rows: Floats, heads: int) -> Floats:
    """Undo llama.cpp's order of rows: pairs (0, 1), (2, 3) ... of each head become halves again."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))
