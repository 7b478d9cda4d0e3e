"""Turn token ids into text as they come, holding back what is not certain yet. The front's hot path."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream

from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import RequestError

REPLACEMENT = "\ufffd"
CONTEXT = 8
"""Prompt ids that are enough, as a rule, for the text to go on as after the whole prompt."""
MAX_PENDING = 64
"""Ids without text after which text is forced out; a character has at most 4."""


class Detokenizer:
    """The text of one answer. Not thread-safe; one a sequence.

    ``push`` gives the new text that is safe to send: no half character, and nothing that may be the beginning of
    a stop string. The sum of what ``push`` and ``finish`` give does not depend on how the ids were split.
    """

    __slots__ = (
        "_base", "_firsts", "_held", "_include_stop", "_longest", "_pending", "_skip", "_step", "_stops",
        "_tokenizer", "stopped",
    )  # fmt: skip

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        prompt_ids: Sequence[int],
        stop: tuple[str, ...] = (),
        skip_special_tokens: bool = True,
        include_stop: bool = False,
    ) -> None:
        """``prompt_ids`` only decide how the text goes on (a leading space); their own text is not given.

        ``stop`` strings end the text: it is cut before the one that is complete first (the longest of those that
        end together), or behind it with ``include_stop``. Raises ``RequestError`` if one is empty.
        """
        if "" in stop:
            raise RequestError("A stop string is empty.", hint="Leave it out.", param="stop")
        self.stopped: str | None = None
        """The stop string that was met."""
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._include_stop = include_stop
        self._stops = stop
        self._firsts = tuple({text[0] for text in stop})
        self._longest = max(map(len, stop), default=0)
        self._held = ""
        self._pending: list[int] = []  # ids since the last text
        self._base = self._context(prompt_ids)  # ids that the pending ones go on from
        self._step = DecodeStream(self._base, skip_special_tokens).step

    def push(self, ids: Sequence[int]) -> str:
        """Add ids and give the text that is now safe to send, maybe "". After a stop string always ""."""
        if self.stopped is not None:
            return ""
        text = self._feed(ids)
        return self._cut(text) if self._stops and text else text

    def finish(self) -> str:
        """End the text: give what was held back. A character cut off becomes U+FFFD, as in ``decode``."""
        if self.stopped is not None:
            return ""
        text = self._text(self._base, self._pending)
        self._pending.clear()
        return self._cut(text, last=True)

    @property
    def held(self) -> int:
        """How many characters wait because they may be the beginning of a stop string."""
        return len(self._held)

    def _context(self, prompt_ids: Sequence[int]) -> list[int]:
        """The end of the prompt, long enough to have a text."""
        for size in (CONTEXT, 8 * CONTEXT, len(prompt_ids)):
            context = list(prompt_ids[-size:])
            text = self._tokenizer.decode(context, self._skip)
            if text:
                # DecodeStream would give the text of a context that ends in U+FFFD as new text.
                return self._tokenizer.anchor if text.endswith(REPLACEMENT) else context
        return []

    def _feed(self, ids: Sequence[int]) -> str:
        text = ""
        backend, step, pending = self._tokenizer.backend, self._step, self._pending
        for index in ids:
            try:
                piece = step(backend, index)
            except Exception:  # tokenizers raises plain Exception: "Invalid prefix encountered"
                pending.append(index)
                text += self._restart()
                step = self._step
                continue
            if piece:
                text += piece
                if pending:
                    pending.clear()
                self._base = self._tokenizer.anchor
            else:
                pending.append(index)
                if not len(pending) % MAX_PENDING:
                    text += self._force()
                    step = self._step
        return text

    def _restart(self) -> str:
        """Decode the pending ids apart from what was before them.

        Bytes that are no UTF-8 can change how the ones before them decode, which have been given already.
        """
        text = self._text(self._tokenizer.anchor, self._pending)
        self._base = self._tokenizer.anchor
        self._step = DecodeStream(self._base, self._skip).step
        self._pending.clear()
        return text

    def _force(self) -> str:
        """Give the text of all pending ids but the last few, which may be the beginning of a character.

        Needed for runs of U+FFFD, behind which DecodeStream waits for ever, and of tokens without text.
        """
        anchor, pending = self._tokenizer.anchor, list(self._pending)
        whole = self._text(self._base, pending)
        for cut in range(len(pending) - 4, len(pending) - 8, -1):
            text = self._text(self._base, pending[:cut])
            if text + self._text(anchor, pending[cut:]) == whole:  # so the cut is between characters
                if text:
                    self._base = anchor
                self._step = DecodeStream(self._base, self._skip).step
                self._pending.clear()
                return text + self._feed(pending[cut:])
        return ""

    def _text(self, base: list[int], ids: list[int]) -> str:
        """What ``ids`` add to the text of ``base``."""
        if not ids:
            return ""
        before = self._tokenizer.decode(base, self._skip)
        return self._tokenizer.decode(base + ids, self._skip)[len(before) :]

    def _cut(self, text: str, last: bool = False) -> str:
        """Cut before the first stop string, and hold back what may be the beginning of one unless it is the
        ``last`` text."""
        if not self._held:
            for first in self._firsts:
                if first in text:
                    break
            else:
                return text
        text = self._held + text
        met = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if met:
            end, start = min(met)
            self.stopped = text[start:end]
            self._held = ""
            return text[:end] if self._include_stop else text[:start]
        safe = len(text) if last else self._safe(text)
        self._held = text[safe:]
        return text[:safe]

    def _safe(self, text: str) -> int:
        """How much of ``text`` stands before anything that may be the beginning of a stop string."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start] in self._firsts:
                rest = text[start:]
                for stop in self._stops:
                    if stop.startswith(rest):
                        return start
        return len(text)
