"""What PEFT makes of the same weights and adapters in float32; to be run in a process of its own."""

from __future__ import annotations

from pathlib import Path

from tests.engines.reference import Reference


class PeftReference(Reference):
    """``adapters`` are names and folders."""

    def __init__(self, gguf: Path, cache: Path, adapters: dict[str, Path]) -> None:
        from peft import PeftModel

        super().__init__(gguf, cache)
        self._torch.set_num_threads(1)  # an engine runs beside it
        for name, folder in adapters.items():
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(folder, adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)

    def adapted_mistake(self, adapter: str, prompt: list[int], answer: list[int]) -> int | None:
        """As ``greedy_mistake``, with an adapter, or with none if ``adapter`` is ""."""
        if not adapter:
            with self._model.disable_adapter():
                return self.greedy_mistake(prompt, answer)
        self._model.set_adapter(adapter)
        return self.greedy_mistake(prompt, answer)
