"""Loads a model of transformers as a plan says: whole, in its dtype, with bitsandbytes if asked to."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from openllm.engines.base import EngineConfig
from openllm.errors import CorruptFile, EngineMissing, UnsupportedOption

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning, module=r"bitsandbytes")

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("none", "int8", "int4", "bnb-int8", "bnb-nf4", "gptq", "gptq-int8")
_SHOWN = 3  # of the weights that are missing


def refuse_options(config: EngineConfig) -> None:
    """Raise ``UnsupportedOption`` for what this engine has not."""
    if config.dtype not in DTYPES:
        raise _refused("has no dtype", config.dtype, f"Choose {', '.join(DTYPES)}.", "dtype")
    if config.quantization not in QUANTIZATIONS:
        hint = "Use none, int8 or int4, or --backend vllm."
        raise _refused("does not quantize to", config.quantization, hint, "quantize")
    if config.kv_cache_dtype != "auto":
        hint = "Leave --kv-cache-dtype out: it has the dtype of the model."
        raise _refused("has no KV cache in", config.kv_cache_dtype, hint, "kv_cache_dtype")
    if config.tensor_parallel != 1:
        raise _refused(
            "does not split a model by", str(config.tensor_parallel), "Use --backend vllm.", "tensor_parallel"
        )
    if config.max_images:
        raise _refused("takes", "text only", "Use --backend vllm.", "backend")


def load_model(config: EngineConfig, path: Path) -> Any:
    """The model of the folder ``path``, ready to compute. Blocks for seconds.

    Raises ``CorruptFile`` if a weight is missing (transformers would make it up), ``UnsupportedOption`` for
    checkpoints and architectures that it has not, ``EngineMissing`` for a package that they need.
    """
    try:
        settings = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model, loading = AutoModelForCausalLM.from_pretrained(
            path,
            config=settings,
            dtype=DTYPES[config.dtype],
            quantization_config=_quantization(config),
            device_map={"": 0 if config.device == "cuda" else "cpu"},
            attn_implementation=_attention(settings),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except ImportError as error:
        raise EngineMissing(
            f"transformers cannot load {config.name}: {str(error).strip().splitlines()[0]}",
            hint="Run: pip install 'openllm[transformers]'",
            param="backend",
        ) from error
    except ValueError as error:
        raise UnsupportedOption(
            f"transformers cannot load {config.name}: {str(error).strip().splitlines()[0]}",
            hint="Use --backend vllm, or another model.",
            param="model",
        ) from error
    missing = sorted(loading["missing_keys"]) + sorted(str(key) for key in loading["mismatched_keys"])
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise CorruptFile(
            f"{path} lacks {len(missing)} of the model's weights: {shown}.", hint="Fetch the model again."
        )
    return model.eval()


def _quantization(config: EngineConfig) -> Any:
    if config.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if config.quantization == "int4":
        dtype = DTYPES[config.dtype]
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32 if dtype == "auto" else dtype,
        )
    return None


def _attention(settings: Any) -> str | None:
    """transformers' fused attention leaves the soft limit of scores out, without a word; its plain one has it."""
    soft = getattr(settings.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if soft else None


def _refused(what: str, value: str, hint: str, param: str) -> UnsupportedOption:
    return UnsupportedOption(f"The transformers engine {what} {value}.", hint=hint, param=param)
