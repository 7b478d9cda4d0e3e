"""Reads what a folder says of how a model's vectors or scores are made: sentence-transformers' layout.

``modules.json`` lists the steps (a transformer, pooling, dense layers, normalising), each with its settings in a
folder of its own. A cross-encoder has no such list; its ``config.json`` names what is done to its score.
Source: sentence-transformers' saved models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from openllm.errors import CorruptFile, UnsupportedOption

Pooling = Literal["mean", "cls", "last"]
Activation = Literal["sigmoid", "identity"]
T = TypeVar("T")

# The settings of the transformer step: one of these, by the age of the model.
TRANSFORMER_FILES = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json",
                      "sentence_distilbert_config.json", "sentence_camembert_config.json")  # fmt: skip
_OTHER_POOLINGS = {
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_ACTIVATIONS: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity"}


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """From a model's last hidden states to a vector: ``pooling`` of its tokens, the ``dense`` layers (folders in
    the model's, in order), and whether the vector gets the length 1."""

    pooling: Pooling = "mean"
    dense: tuple[str, ...] = ()
    normalize: bool = False


class SentenceModel(msgspec.Struct, frozen=True, kw_only=True):
    """``longest`` is the most tokens of a text, special ones included, None where it is not said. ``prompts`` are
    texts to put before another, by name, ``default_prompt`` the name of the one that is used unasked ("": none).
    ``lower``: are texts made lower case first? ``steps`` is None where there is no modules.json."""

    steps: Steps | None = None
    longest: int | None = None
    lower: bool = False
    prompts: dict[str, str] = {}
    default_prompt: str = ""


class _Module(msgspec.Struct):
    type: str
    path: str = ""


class _Transformer(msgspec.Struct):
    max_seq_length: int | None = None
    do_lower_case: bool = False


class _Pooling(msgspec.Struct):
    pooling_mode: str | list[str] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    include_prompt: bool = True


class _Settings(msgspec.Struct):
    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None


class _CrossEncoder(msgspec.Struct):
    activation_fn: str = ""


class _Config(msgspec.Struct):
    sentence_transformers: _CrossEncoder | None = None
    id2label: dict[str, str] | None = None
    num_labels: int | None = None
    sbert_ce_default_activation_function: str | None = None


def read_sentence_model(folder: Path) -> SentenceModel:
    """Read the settings of a folder; all defaults for one without any.

    Raises ``CorruptFile`` for a file that cannot be read, ``UnsupportedOption`` for a step that no engine here
    has.
    """
    modules = _read(folder / "modules.json", list[_Module], [])
    files = [folder / name for name in TRANSFORMER_FILES if (folder / name).is_file()]
    transformer = _read(files[0], _Transformer, _Transformer()) if files else _Transformer()
    settings = _read(folder / "config_sentence_transformers.json", _Settings, _Settings())
    prompts = {name: text for name, text in settings.prompts.items() if text}
    default = settings.default_prompt_name or ""
    return SentenceModel(
        steps=_steps(folder, modules, prompts) if modules else None,
        longest=transformer.max_seq_length,
        lower=transformer.do_lower_case,
        prompts=prompts,
        default_prompt=default if default in prompts else "",
    )


def read_activation(folder: Path) -> Activation:
    """What a cross-encoder's score goes through: sigmoid unless its config.json says otherwise.

    Raises ``CorruptFile``, and ``UnsupportedOption`` for a classifier of several classes or another function.
    """
    config = _read(folder / "config.json", _Config, _Config())
    labels = len(config.id2label) if config.id2label else config.num_labels or 2  # transformers' default
    if labels != 1:
        raise UnsupportedOption(
            f"{folder.name} is a classifier of {labels} classes, not a reranker: it gives no single score.",
            hint="Choose a cross-encoder with one label.",
            param="model",
        )
    named = config.sentence_transformers.activation_fn if config.sentence_transformers else ""
    named = named or config.sbert_ce_default_activation_function or "Sigmoid"
    found = _ACTIVATIONS.get(named.rpartition(".")[2])
    if found is None:
        raise _unknown(folder, f"the activation {named}")
    return found


def _steps(folder: Path, modules: list[_Module], prompts: dict[str, str]) -> Steps:
    pooling: Pooling = "mean"
    dense: list[str] = []
    normalize = False
    for module in modules[1:]:
        match module.type.rpartition(".")[2]:
            case "Pooling":
                pooling = _pooling(folder, module.path, prompts)
            case "Dense":
                dense.append(module.path)
            case "Normalize":
                normalize = True
            case other:
                raise _unknown(folder, f"the step {other}")
    return Steps(pooling=pooling, dense=tuple(dense), normalize=normalize)


def _pooling(folder: Path, path: str, prompts: dict[str, str]) -> Pooling:
    config = _read(folder / path / "config.json", _Pooling, _Pooling())
    if prompts and not config.include_prompt:
        raise _unknown(folder, "pooling without the prompt's tokens")
    modes: list[str] = [config.pooling_mode] if isinstance(config.pooling_mode, str) else []
    modes += config.pooling_mode if isinstance(config.pooling_mode, list) else []
    modes += ["cls"] if config.pooling_mode_cls_token else []
    modes += ["mean"] if config.pooling_mode_mean_tokens else []
    modes += ["last"] if config.pooling_mode_lasttoken else []
    modes += [name for key, name in _OTHER_POOLINGS.items() if getattr(config, key)]
    names = sorted({"last" if mode == "lasttoken" else mode for mode in modes}) or ["mean"]
    match names:
        case ["mean" | "cls" | "last" as one]:
            return one
        case _:
            raise _unknown(folder, f"the pooling {' + '.join(names)}")


def _unknown(folder: Path, what: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"{folder.name} uses {what}, which no engine here has.",
        hint="Choose another embedding model: openllm models",
        param="model",
    )


def _read(path: Path, kind: type[T], default: T) -> T:
    """The file's content, or the default if there is no such file."""
    if not path.is_file():
        return default
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.", hint="Fetch the file again.") from error
