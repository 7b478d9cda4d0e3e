"""LoRA adapters in vLLM's core: checked against the model matrix by matrix, then kept under ids of our own.

vLLM copies a matrix that is too small into the corner of its place, and passes over one whose layer is not in the
model (0.32, ``BaseLinearLayerWithLoRA.set_lora``): an adapter of another model could answer, wrongly. And the prefix
cache tells adapters apart by name and path: one that was loaded anew from a folder whose files have changed would find
what the old one computed. So each loading has a name that vLLM has not heard before.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.lora.utils import parse_fine_tuned_lora_name

from openllm.engines.base import AdapterFiles
from openllm.errors import InvalidAdapter, ModelNotServed, OpenLLMError
from openllm.formats.safetensors_header import read_header
from openllm.weights.adapter import TENSORS

_HINT = "Use an adapter that was trained on this model."


class VLLMAdapters:
    """The adapters of one in-process ``EngineCore``, at most ``most`` at once."""

    def __init__(self, core: Any, most: int) -> None:
        self._core = core
        self._most = most
        self._ids = itertools.count(1)
        self._loaded: dict[str, Any] = {}

    def request(self, name: str) -> Any:
        """What a request for the adapter ``name`` carries; None for "". Raises ``ModelNotServed``."""
        if not name:
            return None
        try:
            return self._loaded[name]
        except KeyError:
            raise ModelNotServed(
                f"The adapter {name!r} is not loaded.", hint="See /v1/models.", param="model"
            ) from None

    def load(self, adapter: AdapterFiles) -> None:
        """See ``engines.base.ServesAdapters.load_adapter``."""
        if adapter.name in self._loaded:
            raise InvalidAdapter(
                f"The adapter {adapter.name!r} is loaded.", hint="Unload it first.", param="lora_name"
            )
        if len(self._loaded) >= self._most:
            raise InvalidAdapter(
                f"{self._most} adapters are loaded, and there is room for no more.",
                hint="Unload one, or start with a larger --max-adapters.",
                param="lora_name",
            )
        number = next(self._ids)
        request = LoRARequest(f"{adapter.name}#{number}", number, adapter.path)
        try:
            self._check(adapter)
            self._core.add_lora(request)
        except OpenLLMError:
            raise
        except Exception as error:
            raise InvalidAdapter(
                f"vLLM cannot apply the adapter {adapter.name} ({adapter.path}): {_said(error)}",
                hint=_HINT,
                param="adapter",
            ) from error
        self._loaded[adapter.name] = request

    def unload(self, name: str) -> None:
        """See ``engines.base.ServesAdapters.unload_adapter``."""
        self._core.remove_lora(self.request(name).lora_int_id)
        del self._loaded[name]

    def _check(self, adapter: AdapterFiles) -> None:
        """Compare each matrix with the place that it would get. Raises ``InvalidAdapter``, ``CorruptFile``."""
        manager = _manager(self._core)
        if manager is None:  # the workers are other processes: vLLM's own checks must do
            return
        known, places = _places(manager)
        for module, shape in _shapes(manager, adapter).items():
            if ".experts" in module:
                continue  # kept in one tensor, in more than one layout: vLLM's own checks must do
            if module not in known:
                raise _misfit(adapter, f"changes {module}, which this model does not have")
            place = places.get(module, shape)
            if shape != place:
                was, now = (f"{inputs} x {outputs}" for inputs, outputs in (shape, place))
                raise _misfit(adapter, f"has matrices for {module} of {was}; in this model it is {now}")


def _manager(core: Any) -> Any:
    """vLLM's ``LoRAModelManager``, if the worker is in this process."""
    worker = getattr(core.model_executor, "driver_worker", None)
    runner = getattr(getattr(worker, "worker", None), "model_runner", None)
    return getattr(getattr(runner, "lora_manager", None), "_adapter_manager", None)


def _places(manager: Any) -> tuple[set[str], dict[str, tuple[int, int]]]:
    """The modules that an adapter may change, by the names that PEFT gives them, and (inputs, outputs) of those of
    them that are plain linear layers."""
    known: set[str] = set()
    places: dict[str, tuple[int, int]] = {}
    for name, module in manager.modules.items():
        parts = manager.packed_modules.get(name, [name])
        known.update(parts, (name,))
        a, b = module.lora_a_stacked, module.lora_b_stacked
        if isinstance(a, tuple) and len(a) == len(parts):
            for part, a_place, b_place in zip(parts, a, b, strict=True):
                places[part] = int(a_place.shape[-1]), int(b_place.shape[-2])
    return known, places


def _shapes(manager: Any, adapter: AdapterFiles) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each module that the adapter changes, by vLLM's names, from the file's header."""
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    if mapper is not None:
        mapper = mapper.get_rename_mapper()
    inputs: dict[str, int] = {}
    outputs: dict[str, int] = {}
    for name, tensor in read_header(Path(adapter.path) / TENSORS).tensors.items():
        if name.endswith(".base_layer.weight"):
            continue
        module, is_a = parse_fine_tuned_lora_name(name, mapper)
        if is_a:
            inputs[module] = tensor.shape[1]
        else:
            outputs[module] = tensor.shape[0]
    return {module: (inputs[module], outputs[module]) for module in inputs}


def _misfit(adapter: AdapterFiles, what: str) -> InvalidAdapter:
    return InvalidAdapter(f"The adapter {adapter.name} {what}.", hint=_HINT, param="adapter")


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
