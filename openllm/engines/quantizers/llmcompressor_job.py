"""Quantizes a folder of float safetensors with llm-compressor: w8a8, w4a16 or fp8, as compressed-tensors.

A script of the tools' environment; see ``gptqmodel_job`` for the job.
"""

from __future__ import annotations

import sys
from typing import Any

from protocol import Talk, run_job


def main(job: dict[str, Any], talk: Talk) -> None:
    talk.stage("importing llm-compressor")
    import torch
    from llmcompressor import oneshot
    from llmcompressor.core import LifecycleCallbacks
    from llmcompressor.version import __version__
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    talk.stage("loading the model")
    model = AutoModelForCausalLM.from_pretrained(job["source"], dtype="auto", device_map=device)
    layers = model.config.get_text_config().num_hidden_layers
    _count(LifecycleCallbacks, talk, layers)
    talk.stage("quantizing, layer by layer" if _calibrates(job) else "quantizing")
    oneshot(model=model, recipe=_recipe(job), **(_data(job) if _calibrates(job) else {}))
    talk.stage("writing the checkpoint")
    model.save_pretrained(job["output"], save_compressed=True)
    AutoTokenizer.from_pretrained(job["source"]).save_pretrained(job["output"])
    talk.done(tool=f"llmcompressor {__version__}", torch=torch.__version__, device=device)


def _calibrates(job: dict[str, Any]) -> bool:
    return bool(job["mode"] != "fp8")


def _recipe(job: dict[str, Any]) -> Any:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    common: dict[str, Any] = {"targets": ["Linear"], "ignore": ["lm_head"]}
    if job["mode"] == "fp8":
        return [QuantizationModifier(scheme="FP8_DYNAMIC", **common)]
    if job["mode"] == "w8a8":
        return [SmoothQuantModifier(smoothing_strength=0.8), GPTQModifier(scheme="W8A8", **common)]
    weights = {
        "num_bits": job["bits"], "type": "int", "symmetric": True, "strategy": "group", "dynamic": False,
        "group_size": job["group_size"], "observer": "mse",
    }  # fmt: skip
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return [GPTQModifier(config_groups=groups, ignore=["lm_head"], **job.get("settings", {}))]


def _data(job: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset

    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in job["samples"]]
    return {
        "dataset": Dataset.from_list(rows),
        "num_calibration_samples": len(rows),
        "max_seq_length": max(map(len, job["samples"])),
        "shuffle_calibration_samples": False,
        "pipeline": "sequential",
    }


def _count(callbacks: Any, talk: Talk, layers: int) -> None:
    """Tell of each layer that is finished: the library has no call for it, so its own is wrapped."""
    inner = callbacks.sequential_epoch_end
    done = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        result = inner(*args, **kwargs)
        done += 1
        talk.progress(min(done, layers), layers)
        return result

    callbacks.sequential_epoch_end = counted


if __name__ == "__main__":
    sys.exit(run_job(main))
