"""What a GGUF file's header says of its model. Key names are those of the GGUF specification."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from openllm.errors import CorruptFile
from openllm.formats.gguf_header import GgufHeader, SkippedArray
from openllm.weights.chat_guess import guess_task
from openllm.weights.manifest import Shape

# ``general.file_type`` (llama.cpp's llama_ftype) -> the name in file names.
_FILE_TYPES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s",
    12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k",
    19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s",
    27: "iq3_m", 28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16", 36: "tq1_0", 37: "tq2_0",
    38: "mxfp4", 39: "nvfp4", 40: "q1_0",
}  # fmt: skip
_IN_NAME = re.compile(
    r"(?:^|[-._])(iq\d_\w+?|q\d_k_(?:xl|[sml])|q\d_[k01]|bf16|f16|fp16|f32|mxfp4)(?=[-._]|$)", re.IGNORECASE
)
# ``general.architecture`` -> the class that reads the converted weights.
_CLASSES = {
    "llama": "LlamaForCausalLM", "mistral3": "Mistral3ForConditionalGeneration", "qwen2": "Qwen2ForCausalLM",
    "qwen2moe": "Qwen2MoeForCausalLM", "qwen3": "Qwen3ForCausalLM", "qwen3moe": "Qwen3MoeForCausalLM",
    "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3": "Gemma3ForCausalLM",
    "phi2": "PhiForCausalLM", "phi3": "Phi3ForCausalLM", "deepseek2": "DeepseekV3ForCausalLM",
    "gpt-oss": "GptOssForCausalLM", "granite": "GraniteForCausalLM", "olmo2": "Olmo2ForCausalLM",
    "falcon": "FalconForCausalLM", "stablelm": "StableLmForCausalLM", "starcoder2": "Starcoder2ForCausalLM",
    "nemotron": "NemotronForCausalLM", "gpt2": "GPT2LMHeadModel", "bloom": "BloomForCausalLM",
    "smollm3": "SmolLM3ForCausalLM", "lfm2": "Lfm2ForCausalLM", "command-r": "CohereForCausalLM",
    "bert": "BertModel", "nomic-bert": "NomicBertModel", "gemma-embedding": "Gemma3TextModel",
}  # fmt: skip
# Which engine can read it. OpenVINO GenAI's own reader, by its guide "Run GGUF models"; vLLM and transformers after a
# conversion to safetensors, for what transformers can read (its GGUF_CONFIG_MAPPING).
_OPENVINO = frozenset({"llama", "qwen2", "qwen3"})
_CONVERTIBLE = frozenset({
    "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "falcon", "phi3", "bloom", "stablelm", "gpt2", "starcoder2",
    "nemotron", "gemma2", "gemma3", "gpt-oss", "lfm2",
})  # fmt: skip


class GgufFacts:
    """A header, asked in the words of a manifest."""

    def __init__(self, header: GgufHeader, name: str) -> None:
        """``name`` is the file's, for messages."""
        self.header = header
        self.name = name
        self.family = str(header.metadata.get("general.architecture", ""))

    @property
    def engines(self) -> tuple[str, ...]:
        able = (("openvino", _OPENVINO), ("vllm", _CONVERTIBLE), ("transformers", _CONVERTIBLE))
        return tuple(engine for engine, families in able if self.family in families)

    @property
    def quantization(self) -> str:
        """The file type after "gguf-"; where that is not told, the type that takes most of the bytes."""
        file_type = self.header.metadata.get("general.file_type")
        if isinstance(file_type, int) and file_type in _FILE_TYPES:
            return f"gguf-{_FILE_TYPES[file_type]}"
        sizes: Counter[str] = Counter()
        for tensor in self.header.tensors:
            sizes[tensor.type] += tensor.bytes
        return f"gguf-{sizes.most_common(1)[0][0].lower()}" if sizes else "gguf-f32"

    @property
    def dtype(self) -> str:
        """Of the numbers that are not quantized, or of what the quantized ones stand for."""
        return {"gguf-f32": "float32", "gguf-bf16": "bfloat16"}.get(self.quantization, "float16")

    @property
    def context(self) -> int:
        return self._number("context_length") or 2048

    @property
    def template(self) -> str | None:
        text = self.header.metadata.get("tokenizer.chat_template")
        return text if isinstance(text, str) else None

    @property
    def license(self) -> str:
        return str(self.header.metadata.get("general.license", ""))

    @property
    def task(self) -> str:
        """As ``guess_task``; a file that says how to pool is for embeddings, whatever its architecture."""
        known = _CLASSES.get(self.family, "")
        pools = self._number("pooling_type") is not None
        return guess_task(known, template=self.template is not None, sentence_transformer=pools)

    @property
    def architecture(self) -> str:
        return _CLASSES.get(self.family, self.family)

    def shape(self, parameters: int | None = None) -> Shape:
        """The shape; ``parameters`` where the file is one of several. Raises ``CorruptFile`` if a fact is missing."""
        heads, hidden = self._needed("attention.head_count"), self._needed("embedding_length")
        layers = self._needed("block_count")
        window, windowed = self._window(layers)
        rank = self._number("attention.kv_lora_rank")
        return Shape(
            architecture=self.architecture,
            parameters=parameters or sum(math.prod(tensor.shape) for tensor in self.header.tensors),
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=self._number("attention.head_count_kv") or heads,
            head_size=self._number("attention.key_length") or hidden // heads,
            vocabulary=self._vocabulary(),
            tied=all(tensor.name != "output.weight" for tensor in self.header.tensors),
            experts=self._number("expert_count"),
            sliding_window=window,
            windowed_layers=windowed,
            latent_kv=rank + (self._number("rope.dimension_count") or 0) if rank else None,
        )

    def _value(self, key: str) -> Any:
        return self.header.metadata.get(f"{self.family}.{key}")

    def _number(self, key: str) -> int | None:
        value = self._value(key)
        if isinstance(value, list) and value:  # one for each layer
            value = max(value)
        return value if isinstance(value, int) and value > 0 else None

    def _needed(self, key: str) -> int:
        value = self._number(key)
        if value is None:
            raise CorruptFile(
                f"{self.name} does not tell {self.family or 'architecture'}.{key}.",
                hint="It may be a part of a model (vision, adapter) or damaged: use the model's own file.",
            )
        return value

    def _vocabulary(self) -> int:
        tokens = self.header.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, SkippedArray):
            return tokens.length
        return len(tokens) if isinstance(tokens, list) and tokens else self._needed("vocab_size")

    def _window(self, layers: int) -> tuple[int | None, int | None]:
        window = self._number("attention.sliding_window")
        if window is None or window >= self.context:
            return None, None
        pattern = self._value("attention.sliding_window_pattern")
        if isinstance(pattern, list):
            return window, sum(map(bool, pattern)) or None
        every = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}.get(self.family)
        return window, layers - layers // every if every else layers


def quantization_in_name(file_name: str) -> str | None:
    """The quantization as people write it into file names, "gguf-q4_k_m"; None where there is none."""
    found = _IN_NAME.findall(file_name.removesuffix(".gguf"))
    return f"gguf-{found[-1].lower().replace('fp16', 'f16')}" if found else None


# Best first: exact where it is quick, then as little loss as can be had.
_ORDER = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q5_k_s", "q4_k_s", "q4_1", "bf16", "f16", "f32")


def rank(quantization: str) -> int:
    """Where a quantization stands in the order of preference; lower is better."""
    name = quantization.removeprefix("gguf-")
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
