"""A guide in GenAI's words, and a place to try it where it can do no harm.

Run as ``python -m openllm.engines.openvino_guide FOLDER PARENT`` it tries guides that come as lines of JSON on its
standard input and answers each with a line: what is wrong with it, or an empty text. Its first line is ``READY``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from openllm.engines.base import Guide
from openllm.engines.json_grammar import OBJECT, ebnf_text, json_grammar
from openllm.engines.openvino_packages import genai, ov
from openllm.parent import die_with_parent

READY = b"ready\n"
_PLACE = re.compile(r".*\.(?:cc|cpp|h):\d+: ", re.DOTALL)
_NICENESS = 10


def structured_output(guide: Guide) -> Any:
    """GenAI's form of the guide."""
    match guide.kind:
        case "json_object":
            return genai.StructuredOutputConfig(grammar=OBJECT)
        case "json_schema":
            grammar = json_grammar(msgspec.json.decode(guide.text))
            if grammar is None:
                return genai.StructuredOutputConfig(json_schema=guide.text)
            return genai.StructuredOutputConfig(grammar=grammar)
        case "regex":
            return genai.StructuredOutputConfig(regex=guide.text)
        case "grammar":
            return genai.StructuredOutputConfig(grammar=guide.text)
        case "choice":
            choices = " | ".join(map(ebnf_text, msgspec.json.decode(guide.text)))
            return genai.StructuredOutputConfig(grammar=f"root ::= {choices}")


class Trial:
    """A toy model that begins an answer with a guide, which compiles the guide.

    What it has compiled is kept with ``tokenizer``, for every pipeline that shares it.
    """

    def __init__(self, folder: Path, tokenizer: Any = None) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 8
        shared = genai.Tokenizer(folder) if tokenizer is None else tokenizer
        self._pipeline = genai.ContinuousBatchingPipeline(folder, shared, scheduler, "CPU")

    def __call__(self, guide: Guide) -> None:
        """Compile; blocks, without the GIL. Raises ``RuntimeError`` and must not be used after that."""
        config = genai.GenerationConfig()
        config.max_new_tokens = 1
        config.stop_token_ids = {0}
        config.eos_token_id = 0
        config.do_sample = False
        config.structured_output_config = structured_output(guide)
        self._pipeline.generate([ov.Tensor(np.zeros((1, 1), np.int64))], [config])


def _main(folder: Path, parent: int) -> None:
    die_with_parent(parent)
    os.nice(_NICENESS)
    # Libraries print to standard output too: keep it for answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    trial = Trial(folder)
    answers.write(READY)
    for line in sys.stdin.buffer:
        said = ""
        try:
            trial(msgspec.json.decode(line, type=Guide))
        except RuntimeError as error:
            said = _PLACE.sub("", str(error).strip())[:300] or "it cannot be compiled"
            trial = Trial(folder)
        answers.write(msgspec.json.encode(said) + b"\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
