"""What transformers makes of the same weights in float32; to be run in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Reference:
    """transformers' own reading of a .gguf file, kept as safetensors in ``cache`` because it takes 20 s."""

    def __init__(self, gguf: Path, cache: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from openllm.engines.safetensors_convert import converted

        self._torch = torch
        folder = converted(gguf, cache, lambda _: None)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def greedy_mistake(self, prompt: list[int], answer: list[int]) -> int | None:
        """Where ``answer`` leaves transformers' greedy answer to ``prompt``, None if nowhere.

        One pass over both: an answer is greedy if each of its tokens is the likeliest after those before it.
        """
        likeliest = self._logits(prompt + answer[:-1]).argmax(-1)[len(prompt) - 1 :].tolist()
        pairs = zip(likeliest, answer, strict=True)
        return next((index for index, (mine, theirs) in enumerate(pairs) if mine != theirs), None)

    def logprobs(self, text: list[int]) -> list[list[float]]:
        """Natural logarithms of probability of every token at each place but the first."""
        rows: list[list[float]] = self._torch.log_softmax(self._logits(text[:-1]), -1).tolist()
        return rows

    def perplexity(self, text: list[int]) -> float:
        logits = self._logits(text[:-1])
        loss = self._torch.nn.functional.cross_entropy(logits, self._torch.tensor(text[1:]))
        return float(loss.exp())

    def _logits(self, ids: list[int]) -> Any:
        with self._torch.no_grad():
            return self._model(self._torch.tensor([ids])).logits[0]
