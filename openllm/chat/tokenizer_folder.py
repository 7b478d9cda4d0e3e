"""Read a tokenizer from a model's folder, as published on the hub: tokenizer.json and the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
from tokenizers import AddedToken, Tokenizer, processors

from openllm.chat.tokenizer_facts import TokenizerFacts
from openllm.errors import CorruptFile, UsageError

SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
S = TypeVar("S", bound=msgspec.Struct)


class _Token(msgspec.Struct):
    """A special token as tokenizer_config.json writes it, long form."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _Config(msgspec.Struct):
    """The keys of tokenizer_config.json and special_tokens_map.json that matter for text."""

    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    unk_token: str | _Token | None = None
    sep_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    cls_token: str | _Token | None = None
    mask_token: str | _Token | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    chat_template: str | list[_NamedTemplate] | None = None
    added_tokens_decoder: dict[str, _Token] = {}


class _Generation(msgspec.Struct):
    eos_token_id: int | list[int] | None = None


def read_folder(folder: Path) -> tuple[Tokenizer, TokenizerFacts]:
    """Read tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json and the chat
    template (chat_template.jinja wins over the config's). Blocks on the disk.

    Raises ``UsageError`` if there is no tokenizer.json and ``CorruptFile`` if a file cannot be read.
    """
    tokenizer = _tokenizer(folder / "tokenizer.json")
    config = _read(folder / "tokenizer_config.json", _Config)
    named = _read(folder / "special_tokens_map.json", _Config)
    generation = _read(folder / "generation_config.json", _Generation)
    for token in config.added_tokens_decoder.values():
        if tokenizer.token_to_id(token.content) is None:
            tokenizer.add_tokens([AddedToken(**msgspec.structs.asdict(token))])
    special_tokens = _special_tokens(named) | _special_tokens(config)
    if config.add_bos_token is not None or config.add_eos_token is not None:
        bos = special_tokens.get("bos_token") if config.add_bos_token else None
        eos = special_tokens.get("eos_token") if config.add_eos_token else None
        _set_ends(tokenizer, bos, eos)
    template, tool_template = _templates(folder, config)
    ends = generation.eos_token_id if generation.eos_token_id is not None else []
    return tokenizer, TokenizerFacts(
        special_tokens=special_tokens,
        end_ids=tuple(ends) if isinstance(ends, list) else (ends,),
        template=template,
        tool_template=tool_template,
    )


def _tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise UsageError(
            f"{path.parent} has no tokenizer.json.",
            hint="Add the model's tokenizer.json; tokenizer.model and tekken.json alone cannot be read.",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise CorruptFile(f"{path} cannot be read: {error}.", hint="Fetch the file again.") from error


def _set_ends(tokenizer: Tokenizer, bos: str | None, eos: str | None) -> None:
    """Add bos and eos as the config asks, whatever tokenizer.json says, as transformers does."""
    pieces = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    ids = {token: tokenizer.token_to_id(token) for token in (bos, eos) if token}
    for token, index in ids.items():
        if index is None:
            raise CorruptFile(
                f"The special token {token!r} is not in the vocabulary.", hint="Fetch it again."
            )
    tokenizer.post_processor = processors.TemplateProcessing(single=pieces, special_tokens=list(ids.items()))


def _templates(folder: Path, config: _Config) -> tuple[str | None, str | None]:
    named = {}
    if isinstance(config.chat_template, str):
        named["default"] = config.chat_template
    elif config.chat_template is not None:
        named = {entry.name: entry.template for entry in config.chat_template}
    for name, path in (
        ("default", folder / "chat_template.jinja"),
        ("tool_use", folder / "additional_chat_templates" / "tool_use.jinja"),
    ):
        if path.is_file():
            named[name] = _template_text(path)
    return named.get("default"), named.get("tool_use")


def _template_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.", hint="Fetch the file again.") from error


def _special_tokens(config: _Config) -> dict[str, str]:
    entries = {name: getattr(config, name) for name in SPECIAL_TOKENS}
    texts = {name: token.content if isinstance(token, _Token) else token for name, token in entries.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _read(path: Path, kind: type[S]) -> S:
    """The file's content, or the defaults if there is no such file."""
    if not path.is_file():
        return kind()
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.", hint="Fetch the file again.") from error
