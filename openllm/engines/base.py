"""The contract of an engine: a step machine that turns token ids into token ids.

One runner loop serves every engine. Text never reaches an engine: the front tokenizes and detokenizes.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec

from openllm.engines.encoding import EncoderTask
from openllm.formats.sentence_model import Activation, Steps

FinishReason = Literal["stop", "length", "abort", "error"]
GuideKind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]
Token = Annotated[int, msgspec.Meta(ge=0)]
"""A token id; a negative one is no message to be understood."""
Logprobs = list[tuple[Token, float]]
"""Of one place: token ids and their natural logarithms of probability; the chosen token first, then the likeliest
ones, the likeliest first (the chosen one is among them again if it is one of them)."""


class Guide(msgspec.Struct, frozen=True, array_like=True):
    """What the whole answer must look like.

    ``text`` is JSON text of the schema for "json_schema", a regular expression for "regex", a JSON list of texts
    for "choice", a grammar in EBNF for "grammar" (its first rule is ``root``), and empty for "json_object".
    ``source`` names the request's field that asked for it, for errors. It leads to the end of the answer, so
    there must be a stop id, and ``min_tokens`` must be 0.
    """

    kind: GuideKind
    text: str = ""
    source: str = "response_format"


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is chosen. Every field is honoured, or ``Engine.add`` refuses it by name.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch that filter off. ``stop_ids``
    end the answer and are not part of it; the end-of-sequence ids are among them unless the caller ignores
    them. No stop id is chosen before ``min_tokens``.

    ``logprobs`` None gives none, 0 those of the chosen tokens, more also those of as many likeliest ones;
    ``prompt_logprobs`` the same for the prompt's tokens. They are those of the model, before temperature and
    filters. ``logit_bias`` are pairs of a token id and what is added to its logit.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    guide: Guide | None = None


class Generation(msgspec.Struct, frozen=True, array_like=True):
    """One sequence to be generated: ``prompt`` are token ids, ``id`` is unique within the runner's life.

    ``adapter`` names a loaded LoRA adapter, "" is the model itself. ``images`` are files (PNG, JPEG, WebP or GIF, of
    which the first frame counts) for the marks of images in the prompt, in order; the engine puts in place of a mark
    as many tokens as it needs, which count against the context.
    """

    id: int
    prompt: list[int]
    sampling: Sampling
    adapter: str = ""
    images: tuple[bytes, ...] = ()


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one step added to one sequence: new token ids (maybe none), and why it ended, if it did.

    The stop id that ended a sequence is not among ``tokens``. ``cached`` counts prompt tokens that were found
    in the prefix cache, sent with the first delta. ``error`` goes with finish "error", ``kind`` is then the
    class in the error tree and ``param`` the request's field, if they are known. ``logprobs`` has an entry a
    token of ``tokens``, and ``prompt_logprobs``, sent with the first delta, one for each token of the prompt
    but the first; both only if asked for. ``prompt`` counts the tokens of a prompt with images, theirs included,
    sent with the first delta; otherwise 0.
    """

    id: int
    tokens: list[Token]
    finish: FinishReason | None = None
    cached: int = 0
    error: str = ""
    kind: str = ""
    logprobs: list[Logprobs] | None = None
    prompt_logprobs: list[Logprobs] | None = None
    param: str = ""
    prompt: int = 0


MOST_IMAGES = 8
"""Of one prompt, for a model that sees."""


class AdapterFiles(msgspec.Struct, frozen=True, array_like=True):
    """A LoRA adapter on this machine: the name that requests use, and its folder, laid out as PEFT's."""

    name: str
    path: str


class EncoderSteps(msgspec.Struct, frozen=True, kw_only=True):
    """How an encoder's vectors are made; see ``formats.sentence_model``. ``activation`` is for scores."""

    task: EncoderTask
    steps: Steps = Steps()
    activation: Activation = "sigmoid"


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is started with, decided by the plan.

    ``path`` is a folder or a .gguf file; ``kv_cache_bytes`` the size of the KV cache; ``max_sequences`` the
    widest batch; ``context`` the longest prompt + answer in tokens; ``cache`` a folder for compiled or
    converted forms; ``tokenizer`` a folder with tokenizer.json or a .gguf file, "" if there is none (guides are
    then refused); ``options`` are the engine's own, each known to it or refused; ``encoder`` is None for a model
    that generates.

    ``max_adapters`` LoRA adapters of up to ``max_adapter_rank`` can be kept, 0 if none, of which one batch mixes
    ``adapter_slots``; ``adapters`` are loaded before the engine is ready. ``max_images`` is the most that a prompt may
    have, 0 for a model that does not see.

    It is for a ``replica``, counted from 0, which has the GPUs of its place in ``gpus``: indices into those that can be
    seen. Where that is empty, it has all.
    """

    engine: str
    path: str
    name: str
    dtype: str
    quantization: str
    context: int
    max_sequences: int
    kv_cache_bytes: int
    threads: int
    cache: str
    tokenizer: str = ""
    device: str = "cpu"
    kv_cache_dtype: str = "auto"
    tensor_parallel: int = 1
    memory_fraction: float = 0.9
    eager: bool = True
    options: dict[str, str] = msgspec.field(default_factory=dict)
    max_adapters: int = 0
    adapter_slots: int = 0
    max_adapter_rank: int = 0
    adapters: tuple[AdapterFiles, ...] = ()
    max_images: int = 0
    encoder: EncoderSteps | None = None
    replica: int = 0
    gpus: tuple[tuple[int, ...], ...] = ()


class Engine(Protocol):
    """A step machine over a continuous batch. Not thread-safe; made and used in one process by one thread."""

    def add(self, request: Generation) -> None:
        """Queue a sequence; the ids of ``request.prompt`` and its answer must fit ``context``.

        Raises ``errors.RequestError`` if this engine cannot honour its sampling, if the prompt is empty or
        holds an id that is not in the vocabulary, ``errors.ContextLengthExceeded`` if it is too long. A guide
        may be compiled after this has returned: what is wrong with it then ends the sequence with an error.
        """

    def abort(self, request_id: int) -> None:
        """Forget a sequence at once; no delta of it follows. Unknown ids are ignored."""

    def step(self) -> list[Delta]:
        """Run one iteration of the batch and return what it added. Blocks; may return an empty list."""

    def busy(self) -> bool:
        """Is a sequence queued or running?"""

    def weight_forms(self) -> dict[str, int]:
        """Numbers in the loaded matrices by how they are stored: "float32", "int8", "int4", "fp8", "fp4" and so on,
        "unknown" where that cannot be told; see ``weight_forms.check_forms``. Looked up in the weights themselves."""

    def close(self) -> None:
        """Give back memory and threads."""


@runtime_checkable
class ServesAdapters(Protocol):
    """What an engine has besides if ``EngineConfig.max_adapters`` is not 0. Both calls block for some of a second."""

    def load_adapter(self, adapter: AdapterFiles) -> None:
        """Make ``Generation.adapter`` mean this one; its weights are read now, once.

        Raises ``errors.InvalidAdapter`` if it cannot be applied to the model, if there is room for no more, or if
        the name is taken; the engine is as before then.
        """

    def unload_adapter(self, name: str) -> None:
        """Give its room back. No sequence may use it any more. Raises ``errors.ModelNotServed``."""
