"""Embeddings and scores on OpenVINO: a folder of safetensors whose graph we build, or an exported IR folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from openllm.engines.base import EncoderSteps, EngineConfig
from openllm.engines.encoding import Encoding, Vector
from openllm.engines.encoding_queue import EncodingQueue
from openllm.engines.openvino_encoder_graph import Head, add_head, hidden_states
from openllm.engines.openvino_encoder_weights import dense_layer, read_model
from openllm.engines.openvino_packages import ov
from openllm.engines.openvino_precision import PRECISIONS, precision
from openllm.engines.openvino_weights import FORMS
from openllm.errors import CorruptFile, RunnerFailed, UnsupportedOption

_IR_MODEL = "openvino_model.xml"
_FORMS = {"none": "float32", "int8": "int8"}
# Padded tokens of one batch: 512 took a quarter less CPU a text than 4,096 (all-MiniLM-L6-v2, AVX2).
_BATCH_TOKENS = 512
_FILLED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


class _Config(msgspec.Struct):
    vocab_size: int


class OpenVINOEncoder:
    """See ``engines.encoding.Encoder``. Steps hold the GIL: give it a process of its own."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        _refuse_options(config)
        report(f"loading {config.name} with OpenVINO")
        assert config.encoder is not None
        model = _model(Path(config.path), config.encoder, config.quantization)
        self._inputs = {
            name: each.get_element_type().to_dtype() for each in model.inputs for name in each.get_names()
        }
        compiled = ov.Core().compile_model(model, "CPU", _properties(config))
        self._request: Any = compiled.create_infer_request()
        self._queue = EncodingQueue(
            context=config.context,
            vocabulary=_vocabulary(Path(config.path)),
            most_texts=config.max_sequences,
            most_tokens=max(_BATCH_TOKENS, config.context),
        )

    def add(self, request: Encoding) -> None:
        self._queue.add(request)

    def abort(self, request_id: int) -> None:
        self._queue.remove(request_id)

    def step(self) -> list[Vector]:
        batch = self._queue.take()
        try:
            self._request.infer(self._filled(batch), share_inputs=True)
        except RuntimeError as error:
            said = str(error).strip().splitlines() or ["no reason given"]
            return [
                Vector(each.id, b"", f"OpenVINO failed: {said[-1]}", RunnerFailed.__name__) for each in batch
            ]
        rows = self._request.get_output_tensor(0).data
        return [Vector(each.id, row.tobytes()) for each, row in zip(batch, rows, strict=True)]

    def busy(self) -> bool:
        return bool(self._queue)

    def close(self) -> None:
        self._queue.clear()
        self._request = None

    def _filled(self, batch: list[Encoding]) -> dict[str, Any]:
        """The batch as the model's inputs, shorter texts padded on the right."""
        shape = len(batch), max(len(each.ids) for each in batch)
        arrays = {name: np.zeros(shape, dtype) for name, dtype in self._inputs.items()}
        if "position_ids" in arrays:
            arrays["position_ids"][:] = np.arange(shape[1])
        types = arrays.get("token_type_ids")
        for row, each in enumerate(batch):
            length = len(each.ids)
            arrays["input_ids"][row, :length] = each.ids
            arrays["attention_mask"][row, :length] = 1
            if types is not None and each.second:
                types[row, each.second : length] = 1
        return arrays


def _model(folder: Path, wanted: EncoderSteps, quantization: str) -> ov.Model:
    if not (folder / _IR_MODEL).is_file():
        return read_model(folder, wanted, FORMS[_FORMS[quantization]])
    model = ov.Core().read_model(folder / _IR_MODEL)
    names = {name for each in model.inputs for name in each.get_names()}
    rank = len(hidden_states(model).get_partial_shape())
    if not {"input_ids", "attention_mask"} <= names or not names <= {*_FILLED} or rank != 3:
        raise UnsupportedOption(
            f"{folder.name} is not an encoder of texts: its inputs are {', '.join(sorted(names))}.",
            hint="Export it for feature extraction, or use the model's safetensors.",
            param="model",
        )
    if wanted.task == "rerank":
        raise UnsupportedOption(
            "The openvino engine reranks with safetensors models only.",
            hint="Use the model's safetensors.",
            param="model",
        )
    dense = [dense_layer(folder / path) for path in wanted.steps.dense]
    head = Head(pooling=wanted.steps.pooling, layers=dense, normalize=wanted.steps.normalize)
    return add_head(model, head)


def _vocabulary(folder: Path) -> int:
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=_Config).vocab_size
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptFile(
            f"{folder / 'config.json'} cannot be read: {error}.", hint="Fetch it again."
        ) from error


def _refuse_options(config: EngineConfig) -> None:
    """What the plan would not have chosen."""
    for param, given, known in (
        ("device", config.device, ("cpu",)),
        ("dtype", config.dtype, PRECISIONS),
        ("quantize", config.quantization, tuple(_FORMS)),
    ):
        if given not in known and not (param == "quantize" and (Path(config.path) / _IR_MODEL).is_file()):
            raise UnsupportedOption(
                f"The openvino encoder has no {param} {given}.",
                hint=f"Choose {', '.join(known)}.",
                param=param,
            )


def _properties(config: EngineConfig) -> dict[str, Any]:
    # Pinned threads wait for their core while the front tokenizes on it.
    properties: dict[str, Any] = {"ENABLE_CPU_PINNING": False}
    if config.threads:
        properties["INFERENCE_NUM_THREADS"] = config.threads
    return {**properties, **precision(config.dtype, config.quantization)}
