"""Takes over what changed in the recipe of a model that is served, as far as the running engine allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from openllm.api.prompter import Prompter
from openllm.api.service import Service
from openllm.chat.tokenizer import load_tokenizer
from openllm.errors import InvalidRecipe
from openllm.fleet.supply import Supply
from openllm.weights.manifest import ChatFormat, Manifest

Find = Callable[[str], list[Manifest]]
"""The forms of a model's weights, by its recipe as it is now. Raises what is wrong with it."""
# What is asked by the front alone, for each request anew. The rest is in the engine, or in what a plan made of it.
_FRONTS = "chat"


class RecipeReload:
    """Of one model. To be made in the event loop, and called in a thread."""

    def __init__(self, service: Service, supply: Supply, find: Find) -> None:
        self._service = service
        self._supply = supply
        self._find = find
        self._manifest = supply.plan.manifest
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> str:
        """What changed, in words. Raises ``UsageError``, and then nothing did."""
        name = self._manifest.name
        fresh = self._look_up(name)
        changed = [
            field
            for field in Manifest.__struct_fields__
            if getattr(fresh, field) != getattr(self._manifest, field)
        ]
        said = []
        if _FRONTS in changed:
            self._change_chat(fresh.chat)
            said.append("how it is talked to is as its recipe says now")
        if later := [field for field in changed if field != _FRONTS]:
            said.append(f"{', '.join(later)} changed: `openllm restart` takes it over")
        return f"{name}: {'; '.join(said) or 'its recipe is as it was'}"

    def _look_up(self, name: str) -> Manifest:
        mine = self._manifest
        for found in self._find(self._service.names[-1]):
            if (found.variant, found.format, found.quantization) == (
                mine.variant,
                mine.format,
                mine.quantization,
            ):
                return found
        raise InvalidRecipe(
            f"{name} has no variant {mine.variant!r} in {mine.format} any more.",
            hint="Put it back, or restart with another.",
        )

    def _change_chat(self, chat: ChatFormat) -> None:
        """For requests from now on; those under way have their prompts and parsers."""
        weights = self._supply.here()
        if weights is None or not self._service.prompter.done():
            raise InvalidRecipe(
                f"{self._manifest.name} is not loaded yet.", hint="Send SIGHUP again when it is."
            )
        context = self._supply.plan.context
        prompter = Prompter(
            load_tokenizer(Path(weights.tokenizer), self._supply.cache, chat.stop), chat, context
        )
        self._manifest = msgspec.structs.replace(self._manifest, chat=chat)
        self._loop.call_soon_threadsafe(self._put, prompter)

    def _put(self, prompter: Prompter) -> None:
        done: asyncio.Future[Prompter] = self._loop.create_future()
        done.set_result(prompter)
        self._service.prompter = done
