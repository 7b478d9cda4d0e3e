"""Quantizes a folder of float safetensors to GPTQ or AWQ with GPTQModel.

A script of the tools' environment: it is given a job as JSON on stdin and writes events as JSON lines to stdout.
Job: ``source``, ``output``, ``mode``, ``bits``, ``group_size``, ``samples`` (lists of token ids), ``seed``,
``threads``, ``state`` (a folder that outlives an interruption).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from protocol import Talk, run_job

# What GPTQModel can take up again in the middle, by config.json's model_type.
_RESUMABLE = ("llama", "qwen3_moe")


def main(job: dict[str, Any], talk: Talk) -> None:
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(job["threads"])
    os.environ["GPTQMODEL_DISABLE_PACK_EXT"] = "1"  # it would be compiled, for a minute, to save seconds
    talk.stage("importing GPTQModel")
    import torch
    from gptqmodel import GPTQModel
    from gptqmodel.version import __version__

    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    talk.stage("loading the model")
    model = GPTQModel.load(job["source"], _settings(job), device=device, trust_remote_code=False)
    layers = model.model.config.get_text_config().num_hidden_layers
    model.layer_callback = _Counter(talk, layers)
    samples = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in job["samples"]]
    resumes = model.model.config.model_type in _RESUMABLE
    talk.stage("quantizing, layer by layer")
    talk.progress(0, layers)
    model.quantize(
        samples, batch_size=1, calibration_sort=None, checkpoint=_checkpoint(job) if resumes else None
    )
    talk.stage("writing the checkpoint")
    model.save(job["output"])
    talk.done(tool=f"gptqmodel {__version__}", torch=torch.__version__, device=device)


def _settings(job: dict[str, Any]) -> Any:
    from gptqmodel.quantization.config import METHOD, QuantizeConfig

    common = {"bits": job["bits"], "group_size": job["group_size"], "offload_to_disk": True}
    common["offload_to_disk_path"] = str(Path(job["state"]) / "offload")
    common |= job.get("settings", {})
    if job["mode"] == "awq":
        return QuantizeConfig(method=METHOD.AWQ, sym=False, **common)
    return QuantizeConfig(method=METHOD.GPTQ, **common)


def _checkpoint(job: dict[str, Any]) -> Any:
    from gptqmodel.looper.checkpoint_store import CheckpointConfig

    return CheckpointConfig(path=str(Path(job["state"]) / "layers"))


class _Counter:
    """Counts the layers that are finished."""

    def __init__(self, talk: Talk, layers: int) -> None:
        self._talk = talk
        self._layers = layers
        self._done: set[int] = set()

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        self._done.update(range(layer_idx + 1))
        self._talk.progress(min(len(self._done), self._layers), self._layers)


if __name__ == "__main__":
    sys.exit(run_job(main))
