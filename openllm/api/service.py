"""What the routes share: the model that is served, its prompter once the weights are here, and its runner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from openllm.api.adapter_loader import AdapterLoader
from openllm.api.answer import Answer, Choice, Order, Reader
from openllm.api.caller import CALLER
from openllm.api.event_stream import EventStream
from openllm.api.exchange import EXCHANGE
from openllm.api.images import Images
from openllm.api.metrics import Metrics
from openllm.api.parameters import ChatRequest, CompletionRequest, Parameters
from openllm.api.progress import asked_by_header, progress_event
from openllm.api.prompter import Prompter
from openllm.api.side_lane import aside
from openllm.api.text_encoder import Text, TextEncoder
from openllm.api.told_answer import ToldAnswer
from openllm.engines.base import Sampling
from openllm.engines.encoding import ENCODER_TASKS
from openllm.errors import ModelNotServed, Overloaded, RequestError, TaskNotServed, quoted
from openllm.fleet.keeper import Keeper

_PROGRESS_SECONDS = 1.0
_WORK = {"embedding": "makes embeddings", "rerank": "scores pairs of texts"}
_ROUTES = {"embedding": "/v1/embeddings, /v1/rerank or /v1/score", "rerank": "/v1/rerank or /v1/score"}


class Service:
    """``names`` are what the ``model`` field may say for the model itself, the first one is shown; ``context`` is in
    tokens; ``queue`` bounds the sequences or texts that wait for the engine. ``task`` is the model's, ``engine`` and
    ``device`` what runs it; ``encoder`` is set before the prompter for one that encodes. ``adapter_loader`` is None
    unless clients may load LoRA adapters; ``images`` brings those of conversations."""

    def __init__(
        self,
        names: tuple[str, ...],
        keeper: Keeper,
        metrics: Metrics,
        *,
        context: int,
        queue: int,
        task: str = "chat",
        engine: str = "",
        device: str = "",
    ) -> None:
        self.names = names
        self.engine = engine
        self.device = device
        self.context = context
        self.task = task
        self.encoder: TextEncoder | None = None
        self.keeper = keeper
        self.metrics = metrics
        self.created = int(time.time())
        self.adapter_loader: AdapterLoader | None = None
        self.images = Images(False, None)
        self.prompter: asyncio.Future[Prompter] = asyncio.get_running_loop().create_future()
        self._queue = queue
        self._held = 0  # requests that wait for the prompter
        self._streams: set[EventStream] = set()
        self._watching: set[EventStream] = set()  # those that want to know what they wait for
        self._watch: asyncio.Task[None] | None = None

    def pulse(self) -> None:
        """Write a comment to the streams that were quiet since the last time."""
        for stream in self._streams:
            if stream.quiet:
                stream.write(stream.alive(self.keeper.doing))
            stream.quiet = True

    @contextmanager
    def keeping_alive(self, stream: EventStream, *, progress: bool | None = False) -> Iterator[None]:
        """Look after a stream while the block runs; tell it of ``progress`` if it is to be, or its request's header
        says so."""
        self._streams.add(stream)
        if progress or asked_by_header():
            self._watching.add(stream)
            if self._watch is None or self._watch.done():
                self._watch = asyncio.create_task(self._tell_progress(), context=Context())
        try:
            yield
        finally:
            self._streams.discard(stream)
            self._watching.discard(stream)

    def tell_held(self, stream: EventStream) -> None:
        """Show a stream to live whose request waits for the engine."""
        if self.keeper.ready:
            return
        watches = stream in self._watching
        stream.write(
            progress_event(self.keeper, self.names[0]) if watches else stream.alive(self.keeper.doing)
        )

    async def _tell_progress(self) -> None:
        while self._watching:
            await asyncio.sleep(_PROGRESS_SECONDS)
            for stream in self._watching:
                self.tell_held(stream)

    def keep(self, seconds: float | None) -> None:
        """A request says how long the model is to stay loaded after it."""
        if seconds is not None:
            self.keeper.keep_alive = seconds

    def check(self, request: Parameters, sequences: int) -> None:
        """Raise what speaks against taking a request, before anything is spent on it."""
        if self.task in ENCODER_TASKS:
            raise TaskNotServed(
                f"The model {self.names[0]!r} {_WORK[self.task]}; it does not generate text.",
                hint=f"Use {_ROUTES[self.task]}.",
                param="model",
            )
        request.check()
        self._check_room(sequences)
        self.keep(request.keep_alive)

    def check_encodes(self, tasks: tuple[str, ...], texts: int) -> None:
        """As ``check``, for a request that a model of one of ``tasks`` can serve."""
        if self.task not in tasks:
            wanted = "embeddings" if tasks == ("embedding",) else "scores"
            routes = _ROUTES.get(self.task, "/v1/chat/completions or /v1/completions")
            raise TaskNotServed(
                f"The model {self.names[0]!r} {_WORK.get(self.task, 'generates text')}; it gives no {wanted}.",
                hint=f"Use {routes}, or serve an embedding model: openllm start all-minilm",
                param="model",
            )
        self._check_room(texts)

    def count_encoded(self, texts: list[Text]) -> dict[str, int]:
        """Count the tokens of texts that were encoded; the ``usage`` object."""
        tokens = sum(len(text.ids) for text in texts)
        self.metrics.prompt_tokens += tokens
        return {"prompt_tokens": tokens, "total_tokens": tokens}

    async def until_encoder(self) -> TextEncoder:
        """As ``until_prompter``, for a model that encodes."""
        await self.until_prompter()
        assert self.encoder is not None
        return self.encoder

    def _check_room(self, sequences: int) -> None:
        refusal = self.keeper.refusal()
        if refusal is not None:
            raise refusal
        desk = self.keeper.desk
        if desk.room and sequences > self._queue + desk.room:
            raise RequestError(
                f"The request is for {sequences} answers or texts; the server holds {self._queue + desk.room} at most.",
                hint="Ask for less at once, or start the server with a larger --queue.",
            )
        waiting = desk.queued(background=CALLER.get().background) + self._held
        if waiting + sequences > self._queue + desk.free():
            raise Overloaded(
                f"The queue is full ({waiting} sequences wait).",
                hint="Try again later.",
                retry_after=desk.retry_after(),
            )

    def check_name(self, name: str) -> None:
        """Raise ``ModelNotServed`` for a name that is not one of the model's."""
        if name not in self.names and name not in self.keeper.adapters:
            raise ModelNotServed(
                f"The model {quoted(name)} is not served here.", hint=f"Use {self.names[0]!r}.", param="model"
            )

    async def until_prompter(self, *, engine: bool = True) -> None:
        """Wait for the prompter: for the weights, which are fetched if nobody asked for them before. With ``engine``
        that is started too, beside. Raises what made it impossible."""
        if self.prompter.done():
            return
        refusal = self.keeper.refusal()
        if refusal is not None:
            raise refusal
        if engine:
            self.keeper.wants.ask_engine()
        self.keeper.wants.ask_weights()
        setback = self.keeper.setback
        waits: list[asyncio.Future[Any]] = [self.prompter, setback]
        self._held += 1
        try:
            exchange = EXCHANGE.get()
            left = None if exchange is None else exchange.left()
            done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._held -= 1
        if not done and exchange is not None:
            raise exchange.late()
        if setback.done():
            raise setback.result()

    async def chat(self, request: ChatRequest, reader: Reader) -> Answer:
        """Submit a conversation. Needs the prompter. Raises ``RequestError``."""
        prompter = self.prompter.result()
        prompt = await aside(lambda: prompter.chat_prompt(request))
        stops = request.stops()

        def choice(_: int, sampling: Sampling) -> Choice:
            return prompter.chat_choice(prompt, sampling, stops)

        return self._submit(request, [prompt.ids], request.answer_tokens(), choice, reader, request.images)

    async def complete(self, request: CompletionRequest, reader: Reader) -> Answer:
        """Submit bare prompts: the choices of the first, then of the second. Raises ``RequestError``."""
        prompter = self.prompter.result()
        prompts = await aside(lambda: [prompter.text_prompt(prompt) for prompt in request.prompts()])
        asked = request.answer_tokens()

        def choice(place: int, sampling: Sampling) -> Choice:
            return prompter.text_choice(request, prompts[place], sampling, keeps=asked > 0)

        return self._submit(request, [prompt.ids for prompt in prompts], asked, choice, reader)

    async def prompt_tokens(self, request: ChatRequest) -> int:
        """How long the prompt of a conversation is. Needs the prompter. Raises ``RequestError``."""
        prompter = self.prompter.result()
        return len((await aside(lambda: prompter.chat_prompt(request))).ids)

    def _submit(
        self,
        request: Parameters,
        prompts: list[list[int]],
        asked: int | None,
        choice: Callable[[int, Sampling], Choice],
        reader: Reader,
        images: tuple[bytes, ...] = (),
    ) -> Answer:
        """``choice`` makes one for the prompt of a place."""
        prompter = self.prompter.result()
        prompter.check_ids(request.stop_token_ids)
        choices = []
        for place, prompt in enumerate(prompts):
            longest = prompter.answer_tokens(prompt, asked)
            for number in range(request.sequences()):
                sampling = request.sampling(longest, prompter.end_ids, number)
                choices.append(choice(place, sampling))
        prompt_tokens = sum(map(len, prompts))
        self.metrics.prompt_tokens += prompt_tokens
        # Asked again: what had to wait for the weights may find its adapter unloaded.
        self.check_name(request.model)
        adapter = "" if request.model in self.names else request.model
        kind = Answer if choices[0].teller is None else ToldAnswer
        order = Order(choices, prompt_tokens, adapter, images, request.option_names())
        return kind(self.keeper.desk, order, reader)
