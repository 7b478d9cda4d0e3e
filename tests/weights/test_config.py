"""Facts from config.json, against the numbers that the models' publishers give."""

from __future__ import annotations

from typing import Any

import pytest

from openllm.errors import WeightsError
from openllm.weights.config_quantization import quantization_from_config, quantization_from_types
from openllm.weights.config_shape import Config, shape_from_config
from openllm.weights.manifest import Shape

LLAMA_31_8B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
MIXTRAL_8X7B = LLAMA_31_8B | {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 32768, "sliding_window": None,
}  # fmt: skip
MISTRAL_7B_V01 = LLAMA_31_8B | {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 32000,
    "max_position_embeddings": 32768, "sliding_window": 4096,
}  # fmt: skip
QWEN25_7B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064,
    "max_position_embeddings": 32768, "tie_word_embeddings": False, "use_sliding_window": False,
    "sliding_window": 131072, "max_window_layers": 28,
}  # fmt: skip
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936,
    "max_position_embeddings": 40960, "tie_word_embeddings": False, "sliding_window": None,
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "vocab_size": 129280,
    "max_position_embeddings": 163840, "tie_word_embeddings": False,
}  # fmt: skip
GPT_OSS_20B = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880,
    "num_local_experts": 32, "num_experts_per_tok": 4, "vocab_size": 201088, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}  # fmt: skip
GEMMA_3_4B = {  # as published: the rest is left to the configuration class
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16},
}  # fmt: skip


def shape(config: dict[str, Any]) -> Shape:
    return shape_from_config(Config(config, "a-model"))


@pytest.mark.parametrize(
    ("config", "parameters", "active"),
    [
        (LLAMA_31_8B, 8.030e9, None),
        (MIXTRAL_8X7B, 46.70e9, 12.88e9),
        (MISTRAL_7B_V01, 7.242e9, None),
        (QWEN25_7B, 7.615e9, None),
        (QWEN3_30B_A3B, 30.53e9, 3.35e9),
        (DEEPSEEK_V3, 671.0e9, 37.5e9),
        (GPT_OSS_20B, 20.9e9, 4.2e9),  # published as 3.6e9 active, which leaves the embedding out
        (GEMMA_3_4B, 3.88e9, None),
    ],
    ids=["llama", "mixtral", "mistral", "qwen2.5", "qwen3-moe", "deepseek", "gpt-oss", "gemma3"],
)
def test_parameters(config: dict[str, Any], parameters: float, active: float | None) -> None:
    found = shape(config)
    assert found.parameters == pytest.approx(parameters, rel=0.002)
    if active is None:
        assert found.active_parameters is None
    else:
        assert found.active_parameters == pytest.approx(active, rel=0.01)


def test_exact_where_nothing_is_left_out() -> None:
    assert shape(LLAMA_31_8B).parameters == 8_030_261_248
    assert shape(MIXTRAL_8X7B).parameters == 46_702_792_704


def test_attention() -> None:
    llama, qwen, deepseek = shape(LLAMA_31_8B), shape(QWEN3_30B_A3B), shape(DEEPSEEK_V3)
    assert (llama.heads, llama.kv_heads, llama.head_size, llama.latent_kv) == (32, 8, 128, None)
    assert (qwen.kv_heads, qwen.head_size, qwen.experts) == (4, 128, 128)
    assert (deepseek.latent_kv, deepseek.head_size) == (512 + 64, 192)


def test_windows() -> None:
    assert (shape(MISTRAL_7B_V01).sliding_window, shape(MISTRAL_7B_V01).windowed_layers) == (4096, 32)
    assert (shape(GPT_OSS_20B).sliding_window, shape(GPT_OSS_20B).windowed_layers) == (128, 12)
    assert (shape(GEMMA_3_4B).sliding_window, shape(GEMMA_3_4B).windowed_layers) == (1024, 29)
    assert shape(QWEN25_7B).sliding_window is None
    assert shape(MIXTRAL_8X7B).windowed_layers is None


def test_what_lies_in_the_text_models_part() -> None:
    found = Config(GEMMA_3_4B, "gemma")
    assert (found.architecture, found.dtype, found.context) == (
        "Gemma3ForConditionalGeneration",
        "bfloat16",
        131072,
    )
    assert shape(GEMMA_3_4B).vocabulary == 262208
    assert shape(GEMMA_3_4B).layers == 34


def test_names_of_older_architectures() -> None:
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
            "n_positions": 1024, "vocab_size": 50257}  # fmt: skip
    assert shape(gpt2).parameters == pytest.approx(124.4e6, rel=0.01)
    assert Config(gpt2, "gpt2").context == 1024


def test_a_missing_fact_is_named() -> None:
    config = {key: value for key, value in LLAMA_31_8B.items() if key != "vocab_size"}
    with pytest.raises(WeightsError, match=r"config\.json of a-model does not tell vocab_size"):
        shape(config)


def _compressed(
    weights: dict[str, Any], activations: dict[str, Any] | None = None, form: str = ""
) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("quantized", "name"),
    [
        (None, "none"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8"),
        ({"quant_method": "gptq", "bits": 3}, "gptq-int3"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "auto-round", "packing_format": "auto_round:auto_awq"}, "awq"),
        (_compressed({"num_bits": 8, "type": "int"}, {"num_bits": 8, "type": "int"}), "w8a8"),
        (_compressed({"num_bits": 8, "type": "int"}), "int8"),
        (_compressed({"num_bits": 4, "type": "int"}, form="pack-quantized"), "w4a16"),
        (_compressed({"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "float"}), "fp8"),
        (_compressed({"num_bits": 4, "type": "float"}, form="nvfp4-pack-quantized"), "nvfp4"),
        (_compressed({"num_bits": 4, "type": "int"}, {"num_bits": 8, "type": "int"}), "w4a8"),
        (_compressed({"num_bits": 2, "type": "int"}), "w2a16"),
        ({"quant_method": "compressed-tensors"}, "unknown"),
        ({"quant_method": "new-thing"}, "new-thing"),
    ],
)
def test_quantization(quantized: dict[str, Any] | None, name: str) -> None:
    raw = LLAMA_31_8B | ({"quantization_config": quantized} if quantized else {})
    assert quantization_from_config(raw) == name


def test_layers_that_differ_are_told_by_all_their_modes() -> None:
    fp8 = {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}
    nvfp4 = {"weights": {"num_bits": 4, "type": "float"}, "format": "nvfp4-pack-quantized"}
    groups = {"config_groups": {"group_0": fp8, "group_1": nvfp4}, "quant_method": "compressed-tensors"}
    assert quantization_from_config({"quantization_config": groups}) == "fp8+nvfp4"
    layers = {
        "model.a": {"quant_algo": "FP8"},
        "model.b": {"quant_algo": "NVFP4"},
        "model.c": {"quant_algo": "FP8"},
    }
    mixed = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert quantization_from_config({"quantization_config": mixed}) == "fp8+nvfp4"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"bits": 4, "group_size": 128, "desc_act": False}, "gptq"),  # AutoGPTQ's quantize_config.json
        ({"bits": 8, "group_size": 128}, "gptq-int8"),
        ({"w_bit": 4, "q_group_size": 128, "version": "GEMM"}, "awq"),  # AutoAWQ's quant_config.json
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),
        ({}, "none"),
    ],
)
def test_settings_beside_a_config_that_says_nothing(settings: dict[str, Any], name: str) -> None:
    assert quantization_from_config(LLAMA_31_8B, settings) == name
    assert (
        quantization_from_config(LLAMA_31_8B | {"quantization_config": {"quant_method": "mxfp4"}}, settings)
        == "mxfp4"
    )


def test_types_of_numbers_tell_what_no_settings_do() -> None:
    assert quantization_from_types({"BF16": 100, "I64": 1}) == "none"
    assert quantization_from_types({"BF16": 10, "F8_E4M3": 100}) == "fp8"
    assert quantization_from_types({"F16": 10, "I32": 100}) == "unknown"
    assert quantization_from_types({}) == "none"
