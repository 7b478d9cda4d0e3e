"""From a plan and its weights to what an engine is started with."""

from __future__ import annotations

from pathlib import Path

from openllm.engines.base import MOST_IMAGES, EncoderSteps, EngineConfig
from openllm.formats.sentence_model import Steps, read_activation, read_sentence_model
from openllm.plan import Plan
from openllm.weights.manifest import Manifest, Weights


def engine_config(plan: Plan, weights: Weights, cache: Path, options: dict[str, str]) -> EngineConfig:
    """What a runner loads."""
    return EngineConfig(
        engine=plan.engine,
        path=weights.path,
        name=plan.name,
        dtype=plan.dtype,
        quantization=plan.quantization,
        context=plan.context,
        max_sequences=plan.concurrency,
        kv_cache_bytes=plan.kv_cache_bytes,
        threads=plan.threads,
        cache=str(cache),
        tokenizer=weights.tokenizer,
        device=plan.device,
        kv_cache_dtype=plan.kv_cache_dtype,
        tensor_parallel=plan.tensor_parallel,
        memory_fraction=plan.memory_fraction,
        eager=plan.eager,
        options=options,
        encoder=_encoder_steps(plan.manifest, Path(weights.path)),
        max_adapters=plan.max_adapters,
        adapter_slots=plan.adapter_slots,
        max_adapter_rank=plan.max_adapter_rank,
        max_images=MOST_IMAGES if plan.sees else 0,
        gpus=plan.gpus,
    )


def _encoder_steps(manifest: Manifest, folder: Path) -> EncoderSteps | None:
    """How the model's vectors or scores are made: as the recipe says, else its files, else as
    sentence-transformers does it: the mean of an encoder's tokens. A decoder has seen all only at its last one.

    Raises ``UnsupportedOption`` for what no engine has and ``CorruptFile``.
    """
    if manifest.task == "rerank":
        return EncoderSteps(task="rerank", activation=read_activation(folder))
    if manifest.task != "embedding":
        return None
    steps = read_sentence_model(folder).steps
    if steps is None:
        steps = Steps(pooling="last" if manifest.shape.architecture.endswith("ForCausalLM") else "mean")
    wanted = manifest.embedding
    return EncoderSteps(
        task="embedding",
        steps=Steps(
            pooling=steps.pooling if wanted.pooling is None else wanted.pooling,
            dense=steps.dense,
            normalize=steps.normalize if wanted.normalize is None else wanted.normalize,
        ),
    )
