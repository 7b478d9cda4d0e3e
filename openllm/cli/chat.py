"""``openllm chat``: talk to a running server from the terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openllm.cli.say import note, say_failure
from openllm.cli.settings import HOME, api_key, wants_color
from openllm.errors import OpenLLMError, UsageError

if TYPE_CHECKING:
    from openllm.cli.chat_client import ChatClient, Piece

_HELP = "/clear forgets the conversation, /exit or ctrl-D ends, ctrl-C stops an answer"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def chat(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL_OR_URL]",
            help=f"A served model's name, or a server's address ({HOME} unless given).",
            show_default=False,
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The server's address, beside a model's name.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
) -> None:
    """Chat with a running server. Reads one message from stdin when that is not a terminal."""
    from openllm.cli.chat_client import ChatClient

    address, model = _split(target, url)
    client = ChatClient(address, api_key())
    asked = {"temperature": temperature, "max_tokens": max_tokens}
    talk = Conversation(client, model or client.first_model(), system, asked)
    if sys.stdin.isatty():
        _converse(talk)
    else:
        _answer_once(talk, sys.stdin.read())


class Conversation:
    """The messages so far. Only a question that got an answer, whole or stopped, is remembered."""

    def __init__(
        self, client: ChatClient, model: str, system: str | None, asked: dict[str, float | int | None]
    ) -> None:
        self.model = model
        self._client = client
        self._asked = {key: value for key, value in asked.items() if value is not None}
        self._system = [{"role": "system", "content": system}] if system else []
        self._messages: list[dict[str, str]] = list(self._system)

    def clear(self) -> None:
        self._messages = list(self._system)

    def ask(self, question: str) -> Generator[Piece, None, None]:
        """Yield the answer as it comes. Raises ``OpenLLMError``; closing the iterator stops the answer."""
        messages = [*self._messages, {"role": "user", "content": question}]
        body: dict[str, Any] = {"model": self.model, "messages": messages, **self._asked}
        said: list[str] = []
        with closing(self._client.answer(body)) as pieces:
            try:
                for piece in pieces:
                    if not piece.reasoning:
                        said.append(piece.text)
                    yield piece
            finally:
                if said:
                    self._messages = [*messages, {"role": "assistant", "content": "".join(said)}]


def _split(target: str | None, url: str | None) -> tuple[str, str | None]:
    """The server's address and the model's name, if one was given."""
    if target is None or "://" not in target:
        return url or HOME, target
    if url is not None:
        raise UsageError("Two addresses were given.", hint="Give a model's name beside --url.", param="url")
    return target, None


def _answer_once(talk: Conversation, question: str) -> None:
    if not question.strip():
        raise UsageError("There is no message on stdin.", hint="Try: echo 'Hello' | openllm chat")
    for piece in talk.ask(question.strip()):
        if not piece.reasoning:
            _write(piece.text)
    _write("\n")


def _converse(talk: Conversation) -> None:
    import readline  # noqa: F401 - gives input() editing and history

    note(f"{talk.model}: {_HELP}")
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            _write("\n")
            return
        except KeyboardInterrupt:
            _write("\n")
            note(_HELP)
            continue
        if question in ("/exit", "/quit"):
            return
        if question == "/clear":
            talk.clear()
            note("forgotten")
        elif question.startswith("/"):
            note(_HELP)
        elif question:
            _show_answer(talk, question)


def _show_answer(talk: Conversation, question: str) -> None:
    """Write one answer, its reasoning dimmed before it; ctrl-C and errors end the answer, not the conversation."""
    dim = wants_color(sys.stdout)
    pieces = talk.ask(question)
    thinking = False
    try:
        for piece in pieces:
            if thinking and not piece.reasoning:
                _write("\n\n")
            thinking = piece.reasoning
            _write(f"{_DIM}{piece.text}{_PLAIN}" if piece.reasoning and dim else piece.text)
        _write("\n")
    except KeyboardInterrupt:
        _write("\n")
        note("stopped")
    except OpenLLMError as error:
        _write("\n")
        say_failure(error)
    finally:
        pieces.close()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
