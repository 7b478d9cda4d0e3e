"""What a checkpoint is worth, beside what it was made from: both measured on the engine that serves it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from openllm.chat.tokenizer import ChatTokenizer
from openllm.engines.engine_config import engine_config
from openllm.engines.measure import MeasureJob, measure
from openllm.engines.openvino_quantize import write_ir
from openllm.errors import OpenLLMError
from openllm.plan import Overrides, make_plan
from openllm.quantize.calibration import HELD_OUT, LENGTH, held_out, template_of
from openllm.quantize.modes import Mode
from openllm.quantize.order import Place
from openllm.quantize.record import Quality, Worth
from openllm.quantize.source import Source, copy_config
from openllm.weights.inspect import local_manifests
from openllm.weights.manifest import Manifest, Weights

QUESTION = "What is the capital of France?"
_ROOM = 256
_ANSWER = 300  # characters of it that are kept


def measured(folder: Path, source: Source, mode: Mode, tokenizer: ChatTokenizer, place: Place) -> Quality:
    """Perplexity and speed of the checkpoint in ``folder`` and of its source. Blocks for some minutes.

    Never fails: where the engine is missing or cannot run this here, the answer says why there are no figures.
    """
    windows = held_out(tokenizer)
    quality = Quality(
        engine=mode.engine,
        text_sha256=hashlib.sha256(HELD_OUT.read_bytes()).hexdigest(),
        tokens=sum(len(window) - 1 for window in windows),
    )
    made = msgspec.structs.replace(
        local_manifests(folder)[0], name=source.manifest.name, chat=source.manifest.chat
    )
    after = None
    try:
        after = _worth(made, folder, mode.name, tokenizer, windows, mode.engine, place)
        with _floats(source, mode.engine, place.cache) as (manifest, path):
            before = _worth(manifest, path, "none", tokenizer, windows, mode.engine, place)
    except OpenLLMError as error:
        why = f"{error.message} {error.hint or ''}".strip()
        return msgspec.structs.replace(quality, after=after, unmeasured=why)
    return msgspec.structs.replace(quality, before=before, after=after)


@contextlib.contextmanager
def _floats(source: Source, engine: str, cache: Path) -> Iterator[tuple[Manifest, Path]]:
    """The source as ``engine`` opens it; OpenVINO is given an IR of its floats."""
    path = Path(source.weights.path)
    if engine != "openvino":
        yield source.manifest, path
        return
    (cache / "tmp").mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache / "tmp") as name:
        folder = Path(name)
        write_ir(path, folder, "none", 0)
        copy_config(source, folder)
        found = local_manifests(folder)[0]
        yield msgspec.structs.replace(found, name=source.manifest.name, chat=source.manifest.chat), folder


def _worth(
    manifest: Manifest,
    path: Path,
    quantization: str,
    tokenizer: ChatTokenizer,
    windows: list[list[int]],
    engine: str,
    place: Place,
) -> Worth:
    context = min(manifest.context, LENGTH + _ROOM)
    # Room for more than one: vLLM keeps a block of the cache to itself, which counts where there are few.
    wanted = Overrides(backend=engine, quantize=quantization, context=context, concurrency=4)
    plan = make_plan([manifest], place.machine, wanted, installed=place.engines)
    prompt = _question(manifest, tokenizer)
    weights = Weights(path=str(path), format=manifest.format, tokenizer="")
    config = engine_config(plan, weights, place.cache, {})
    job = MeasureJob(config=config, windows=windows, prompt=prompt, stop_ids=tokenizer.stop_ids)
    found = measure(job)
    return Worth(
        perplexity=round(found.perplexity, 3),
        tokens_per_second=round(found.tokens_per_second, 1),
        bytes=manifest.bytes,
        dtype=plan.dtype,
        answer=tokenizer.decode(found.answer)[:_ANSWER],
    )


def _question(manifest: Manifest, tokenizer: ChatTokenizer) -> list[int]:
    template = template_of(tokenizer, manifest.chat.template) if manifest.task == "chat" else None
    if template is None:
        return tokenizer.encode(QUESTION, add_special_tokens=True)
    text = template.render([{"role": "user", "content": QUESTION}])
    return tokenizer.encode(text, add_special_tokens=False)
