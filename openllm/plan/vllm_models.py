"""Causal language models that vLLM has code for (its registry, 0.32).

Others it tries through transformers' classes, which not all of them allow. Only the order of the ways hangs on this
list, so a newer vLLM's models are found too: they are asked for by --backend vllm.
"""

from __future__ import annotations

_ENDINGS = ("ForCausalLM", "LMHeadModel")
_NAMES = """
AXK1 Afmoe Apertus Arcee BailingMoe BailingMoeV2 BailingMoeV2_5 BailingMoeV3 Bloom Cohere2 Cohere2Moe Cohere
Cwm Dbrx DeciLM Deepseek DeepseekOCR2 DeepseekOCR DeepseekV2 DeepseekV32 DeepseekV3 DeepseekV41 DeepseekV4
DeepseekVLV2 Dots3Note DotsOCR Ernie4_5 Ernie4_5_Moe Exaone4 Exaone ExaoneMoE ExaoneMoe Falcon FalconH1
FalconMamba FlexOlmo GLM4V GPTBigCode GPTJ GPTNeoX Gemma2 Gemma3 Gemma3n Gemma4 Gemma Glm4 Glm4Moe
Glm4MoeLite Glm5Next Glm GlmMoeDsa GptOss Granite GraniteMoe GraniteMoeHybrid GraniteMoeSWA GraniteMoeShared
GraniteSWA HCXVisionV2 HYV3 HYV4 HrmText HunYuanDenseV1 HunYuanMoEV1 HyperCLOVAX IQuestCoder IQuestLoopCoder
Inkling InternLM2 InternLM3 Jais2 Jamba K2Horizon KimiLinear LLaMA Laguna Lfm2 Lfm2Moe Llama4 Llama
LongcatFlash LongcatFlashNgram Mamba2 Mamba Mellum MiMo MiMoV2Flash MiMoV2 MiMoV2Omni MiniCPM3 MiniCPM
MiniMaxM2 MiniMaxM3Sparse Ministral3 Mistral MistralLarge3 Mixtral Molmo Moondream3 MoonshotKimia
MuseGlimmer Nanbeige Nemotron NemotronH NemotronHPuzzle OPT Olmo2 Olmo3 Olmo OlmoHybrid Olmoe Orion Ovis2_6
Ovis2_6_Moe PanguEmbedded PanguProMoEV2 PanguUltraMoE Param2MoE Phi3 Phi3V Phi4MM Phi PhiMoE Plamo3 Qwen2
Qwen2Moe Qwen3 Qwen3Moe Qwen3Next Qwen3_5 Qwen3_5Moe Qwen4Exp Rnj1 SarvamMLA SarvamMoE SeedOss SmolLM3 Solar
StableLm Starcoder2 Step1 Step3Text Step3p5 TeleChat2 TeleChat3 TeleFLM UnlimitedOCR VaultGemma Zamba2
"""
_LISTED = frozenset(f"{name}ForCausalLM" for name in _NAMES.split()) | {"GPT2LMHeadModel"}


def lists(architecture: str) -> bool:
    """Has vLLM code of its own for this class? Taken for granted of what is no causal language model."""
    return architecture in _LISTED or not architecture.endswith(_ENDINGS)
