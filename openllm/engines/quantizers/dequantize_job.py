"""Rewrites a .gguf file as float32 safetensors with transformers. Job: ``source``, ``output``, ``threads``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from protocol import Talk, run_job


def main(job: dict[str, Any], talk: Talk) -> None:
    talk.stage(f"reading {Path(job['source']).name}")
    import transformers
    from transformers import AutoModelForCausalLM, GgufConfig

    path = Path(job["source"])
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(job["output"])
    talk.done(tool=f"transformers {transformers.__version__}")


if __name__ == "__main__":
    sys.exit(run_job(main))
