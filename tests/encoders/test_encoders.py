"""Both engines against transformers' float32, with sentence-transformers' steps written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openllm.chat.tokenizer import ChatTokenizer
from openllm.engines.base import EncoderSteps
from openllm.engines.encoding import Encoding
from openllm.errors import ContextLengthExceeded, RequestError, UnsupportedOption
from openllm.formats.sentence_model import Steps, read_activation, read_sentence_model
from tests.encoders.conftest import Encode, configuration
from tests.encoders.folders import KINDS, random_model, write_folder, write_ir, write_steps

TEXTS = (
    "The capital of France is Paris.",
    "A cat sat on the mat, and then it slept for the rest of the afternoon without a care in the world.",
    "short",
    "Der Hund läuft über die Straße. 😀",
    "x " * 200,
    "What is the capital of France?",
)
ENGINES = ("openvino", "vllm")


def cosine(first: Any, second: Any) -> float:
    return float(np.dot(first, second) / (np.linalg.norm(first) * np.linalg.norm(second)))


def encodings(tokenizer: ChatTokenizer, texts: tuple[str, ...] = TEXTS) -> list[Encoding]:
    return [Encoding(index + 1, tokenizer.encode(text, True)) for index, text in enumerate(texts)]


def pairs(tokenizer: ChatTokenizer) -> list[Encoding]:
    joined = tokenizer.backend.encode_batch([(TEXTS[5], text) for text in TEXTS[:4]])
    return [Encoding(index + 1, each.ids, each.type_ids.index(1)) for index, each in enumerate(joined)]


def hidden(model: Any, ids: list[int], **inputs: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids]), **inputs)


@pytest.fixture(scope="module")
def mean_vectors(minilm: Path, tokenizer: ChatTokenizer) -> list[Any]:
    """What sentence-transformers makes of ``TEXTS``: the mean of the tokens, length 1."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(minilm, dtype="float32")
    means = [hidden(model, each.ids).last_hidden_state[0].mean(0).numpy() for each in encodings(tokenizer)]
    return [mean / np.linalg.norm(mean) for mean in means]


MINILM_STEPS = EncoderSteps(task="embedding", steps=Steps(pooling="mean", normalize=True))


def test_the_real_model_says_how_its_vectors_are_made(minilm: Path) -> None:
    found = read_sentence_model(minilm)
    assert found.steps == MINILM_STEPS.steps
    assert found.longest == 256


@pytest.mark.parametrize(
    ("engine", "changes", "least"),
    [
        ("openvino", {}, 0.99999),
        ("openvino", {"dtype": "auto"}, 0.9999),
        ("openvino", {"quantization": "int8"}, 0.998),
        ("vllm", {}, 0.99999),
        ("vllm", {"dtype": "bfloat16"}, 0.998),
    ],
)
def test_vectors_are_those_of_sentence_transformers(
    encode: Encode, minilm: Path, tokenizer: ChatTokenizer, mean_vectors: list[Any],
    engine: str, changes: dict[str, Any], least: float,
) -> None:  # fmt: skip
    found = encode(configuration(minilm, MINILM_STEPS, engine, **changes), encodings(tokenizer))
    for index, wanted in enumerate(mean_vectors):
        vector = found[index + 1]
        assert cosine(vector, wanted) > least
        assert abs(np.linalg.norm(vector) - 1) < 0.01


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_has_the_same_vector_in_any_company(
    encode: Encode, minilm: Path, tokenizer: ChatTokenizer, engine: str
) -> None:
    config = configuration(minilm, MINILM_STEPS, engine)
    texts = encodings(tokenizer)
    together = encode(config, texts)
    for text in texts:
        alone = encode(config, [text])[text.id]
        assert np.allclose(alone, together[text.id], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_encoded_is_refused(encode: Encode, minilm: Path, engine: str) -> None:
    config = configuration(minilm, MINILM_STEPS, engine)
    for ids in ([], [30_522], [-1], [1] * 257):
        with pytest.raises(ContextLengthExceeded if len(ids) > 256 else RequestError):
            encode(config, [Encoding(1, ids)])
    assert len(encode(config, [Encoding(1, [1] * 256)])[1]) == 384


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("cls", True), ("last", True)])
def test_every_kind_that_openvino_builds(
    encode: Encode,
    minilm: Path,
    tokenizer: ChatTokenizer,
    tmp_path: Path,
    kind: str,
    pooling: str,
    normalize: bool,
) -> None:
    model = random_model(kind, scores=False)
    folder = write_folder(tmp_path / kind, model, minilm)
    write_steps(folder, pooling, normalize=normalize, dense=(64, 20) if kind == "bert" else None)
    steps = read_sentence_model(folder).steps
    assert steps is not None
    texts = encodings(tokenizer, TEXTS[:4])
    found = encode(configuration(folder, EncoderSteps(task="embedding", steps=steps), context=48), texts)
    for text in texts:
        states = hidden(model, text.ids).last_hidden_state[0].numpy()
        wanted = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        if kind == "bert":
            from safetensors.numpy import load_file

            dense = load_file(folder / "2_Dense" / "model.safetensors")
            wanted = np.tanh(dense["linear.weight"] @ wanted + dense["linear.bias"])
        wanted = wanted / np.linalg.norm(wanted) if normalize else wanted
        assert np.allclose(found[text.id], wanted, atol=2e-4)


def test_an_exported_folder(encode: Encode, minilm: Path, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """The same model, traced and saved as exporters do it."""
    source = write_folder(tmp_path / "source", random_model("bert", scores=False), minilm)
    write_ir(source, tmp_path / "ir")
    steps = EncoderSteps(task="embedding", steps=Steps(pooling="mean", normalize=True))
    texts = encodings(tokenizer, TEXTS[:4])
    expected = encode(configuration(source, steps, context=60), texts)
    found = encode(configuration(tmp_path / "ir", steps, context=60), texts)
    for text in texts:
        assert np.allclose(found[text.id], expected[text.id], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_every_kind_of_cross_encoder(
    encode: Encode, minilm: Path, tokenizer: ChatTokenizer, tmp_path: Path, kind: str, activation: str
) -> None:
    import torch

    model = random_model(kind, scores=True)
    folder = write_folder(tmp_path / kind, model, minilm)
    if activation == "identity":
        config = json.loads((folder / "config.json").read_text())
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
        (folder / "config.json").write_text(json.dumps(config))
    steps = EncoderSteps(task="rerank", activation=read_activation(folder))
    texts = pairs(tokenizer)
    found = encode(configuration(folder, steps, context=60), texts)
    scores = []
    for text in texts:
        types = [[int(place >= text.second) for place in range(len(text.ids))]]
        inputs = {"token_type_ids": torch.tensor(types)} if kind == "bert" else {}
        logit = hidden(model, text.ids, **inputs).logits[0, 0]
        scores.append(float(torch.sigmoid(logit) if activation == "sigmoid" else logit))
    assert np.allclose([found[text.id][0] for text in texts], scores, atol=2e-4)
    assert max(scores) - min(scores) > 0.001


def test_vllm_scores_as_transformers_does(
    encode: Encode, minilm: Path, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    import torch

    model = random_model("bert", scores=True)
    folder = write_folder(tmp_path / "bert", model, minilm)
    texts = pairs(tokenizer)
    found = encode(configuration(folder, EncoderSteps(task="rerank"), "vllm", context=60), texts)
    for text in texts:
        types = torch.tensor([[int(place >= text.second) for place in range(len(text.ids))]])
        logit = hidden(model, text.ids, token_type_ids=types).logits[0, 0]
        assert found[text.id][0] == pytest.approx(float(torch.sigmoid(logit)), abs=2e-4)


def test_classifiers_and_unknown_steps_are_refused(minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(UnsupportedOption, match="2 classes"):
        read_activation(tmp_path)
    write_steps(tmp_path, "mean", normalize=True)
    (tmp_path / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True})
    )
    with pytest.raises(UnsupportedOption, match=r"max \+ mean"):
        read_sentence_model(tmp_path)
