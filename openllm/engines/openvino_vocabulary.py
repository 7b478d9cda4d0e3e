"""What GenAI needs to guide answers: the vocabulary, in a detokenizer's IR, and a toy model to try guides on.

GenAI reads the tokens' bytes from the constants of a ``VocabDecoder`` in ``openvino_detokenizer.xml``. A converted
model has none, and those made for published IR folders show special tokens as text, which a guide would then allow
inside JSON strings. So the file is made here, from the tokenizer that the front uses.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import op, opset15
from openvino.utils.node_factory import NodeFactory

from openllm.chat.token_bytes import token_bytes
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.cached_folder import folder_for, new_folder
from openllm.engines.openvino_graph import Decoder, Embeddings, Layer, build
from openllm.engines.openvino_weights import float16

VERSION = 1  # of what is written: raise it and every cached form is made anew
_WIDTH = 32  # of the toy model
_EXTENSION = {"win32": "openvino_tokenizers.dll", "darwin": "libopenvino_tokenizers.dylib"}


def vocabulary_folder(tokenizer: Path, size: int, store: Path) -> Path:
    """The folder with the detokenizer and the toy model for ``size`` token ids, made now if it is not in ``store``.

    Blocks for 0.2 to 1 s the first time. Raises what loading the tokenizer does, ``UnsupportedOption`` for a kind
    of tokenizer whose tokens are not known, ``WeightsError``.
    """
    source = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    target = folder_for(source, store, "openvino", f"vocabulary{size}", VERSION)
    if not target.is_dir():
        tokens = token_bytes(load_tokenizer(tokenizer, store).backend, size)
        store.mkdir(parents=True, exist_ok=True)
        with new_folder(target) as folder:
            ov.save_model(_detokenizer(tokens), folder / "openvino_detokenizer.xml")
            ov.save_model(_toy(size), folder / "openvino_model.xml")
    return target


def _detokenizer(tokens: list[bytes]) -> ov.Model:
    factory = _factory()
    lengths = np.array([len(token) for token in tokens], np.int32)
    ends = np.cumsum(lengths, dtype=np.int32)
    characters = np.frombuffer(b"".join(tokens), np.uint8)
    skipped = np.zeros(1, np.int32)  # one id at least: GenAI makes a variable of it
    ids = op.Parameter(ov.Type.i64, ov.PartialShape([-1, -1]))
    constants = [op.Constant(values) for values in (ends - lengths, ends, characters, skipped)]
    decoder = factory.create("VocabDecoder", [node.output(0) for node in (ids, *constants)], {})
    decoder.set_friendly_name("VocabDecoder")
    *ragged, text = decoder.outputs()
    joined = factory.create("FuzeRagged", ragged, {})
    packed = opset15.string_tensor_pack(joined.output(0), joined.output(1), text)
    model = ov.Model([packed.output(0)], [ids], "detokenizer")
    model.set_rt_info(ov.get_version(), "openvino_tokenizers_version")
    return model


@cache
def _factory() -> NodeFactory:
    """Lives on: the library is unloaded with it, and the nodes are of its classes."""
    factory = NodeFactory()
    factory.add_extension(_extension())
    return factory


def _extension() -> str:
    """The library of openvino-tokenizers, whose Python package would import far more."""
    package = importlib.util.find_spec("openvino_tokenizers")
    assert package is not None
    assert package.submodule_search_locations
    name = _EXTENSION.get(sys.platform, "libopenvino_tokenizers.so")
    return str(Path(package.submodule_search_locations[0]) / "lib" / name)


def _toy(size: int) -> ov.Model:
    """One layer of zeros that finds all tokens equally likely."""

    def zeros(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    decoder = Decoder(
        layers=1, hidden=_WIDTH, mlp=_WIDTH, heads=1, kv_heads=1, head_size=_WIDTH, epsilon=1e-5,
        rotations=(1.0,) * (_WIDTH // 2),
    )  # fmt: skip
    layer = Layer(
        attention_norm=zeros(_WIDTH), qkv=zeros(3 * _WIDTH, _WIDTH), qkv_bias=None, query_norm=None, key_norm=None,
        output=zeros(_WIDTH, _WIDTH), mlp_norm=zeros(_WIDTH), gate_up=zeros(2 * _WIDTH, _WIDTH),
        down=zeros(_WIDTH, _WIDTH),
    )  # fmt: skip
    embeddings = Embeddings(tokens=zeros(size, _WIDTH), norm=zeros(_WIDTH), head=None)
    return build(decoder, embeddings, lambda _: layer, float16)
