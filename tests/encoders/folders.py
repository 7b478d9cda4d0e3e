"""Small random models, made by transformers, that look like published folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

KINDS = ("bert", "roberta", "distilbert", "mpnet")
LONGEST = 60
VOCABULARY = 30522  # the tokenizer's
# Of many words, so that random vectors differ.
_SMALL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "initializer_range": 0.3}
_LAYERS = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": LONGEST + 2,  # RoBERTa's and MPNet's first ones are padding's
}
_DISTIL = {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128, "max_position_embeddings": LONGEST}


def random_model(kind: str, *, scores: bool) -> Any:
    """A transformers model of random weights, always the same ones, in float32."""
    import torch
    import transformers

    torch.manual_seed(7)
    names = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "mpnet": "MPNet"}
    settings = {**_SMALL, **(_DISTIL if kind == "distilbert" else _LAYERS)}
    if kind == "roberta":
        settings["type_vocab_size"] = 1  # as published; the default is BERT's
    config = getattr(transformers, f"{names[kind]}Config")(**settings, num_labels=1)
    model = getattr(transformers, names[kind] + ("ForSequenceClassification" if scores else "Model"))(config)
    # As made, biases are 0 and norms 1: that would hide one that is left out.
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() == 1:
                each.add_(torch.randn_like(each) * 0.2)
    return model.eval()


def write_folder(folder: Path, model: Any, tokenizer: Path) -> Path:
    """Save ``model`` with the tokenizer of another folder."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


def write_steps(folder: Path, pooling: str, *, normalize: bool, dense: tuple[int, int] | None = None) -> None:
    """Write sentence-transformers' list of steps; ``dense`` are a layer's inputs and outputs."""
    import torch
    from safetensors.torch import save_file

    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if dense is not None:
        kinds.append(("2_Dense", "Dense"))
    if normalize:
        kinds.append(("3_Normalize", "Normalize"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    (folder / "1_Pooling").mkdir()
    key = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[pooling]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{key}": True}))
    if dense is not None:
        torch.manual_seed(8)
        (folder / "2_Dense").mkdir()
        settings = {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
        tensors = {
            "linear.weight": torch.randn(dense[1], dense[0]) * 0.3,
            "linear.bias": torch.randn(dense[1]),
        }
        save_file(tensors, folder / "2_Dense" / "model.safetensors")


def write_ir(source: Path, folder: Path) -> None:
    """Write the model of ``source`` as an OpenVINO IR folder whose output is the last hidden states."""
    import warnings

    import openvino as ov
    import torch
    from transformers import AutoModel

    class HiddenStates(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = AutoModel.from_pretrained(source, dtype="float32").eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    folder.mkdir()
    inputs = {name: torch.ones(2, 8, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of what it fixes
        made = ov.convert_model(HiddenStates(), example_input=inputs, input=[ov.PartialShape([-1, -1])] * 2)
    for each, name in zip(made.inputs, inputs, strict=True):
        each.get_tensor().set_names({name})
    made.outputs[0].get_tensor().set_names({"last_hidden_state"})
    ov.save_model(made, folder / "openvino_model.xml", compress_to_fp16=False)
    shutil.copy(source / "config.json", folder / "config.json")
