"""What a published chat template tells of how its model is talked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from openllm.weights.chat_guess import guess_chat, guess_task


@pytest.mark.parametrize(
    ("file", "tools", "reasoning"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes", "none"),
        ("Qwen-Qwen3-0.6B", "hermes", "think"),
        ("Qwen3-Coder", "qwen3_xml", "none"),
        ("GLM-4.7-Flash", "glm", "think"),
        ("Kimi-K2-Instruct", "kimi", "none"),
        ("deepseek-ai-DeepSeek-V3.1", "deepseek_v3", "think"),
        ("mistralai-Mistral-Nemo-Instruct-2407", "mistral", "none"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral", "mistral"),
        ("meta-llama-Llama-3.1-8B-Instruct", "llama3_json", "none"),
        ("openai-gpt-oss-120b", "harmony", "harmony"),
        ("google-gemma-2-2b-it", "none", "none"),
        ("google-gemma-4-31B-it", "gemma", "gemma"),
        ("LFM2.5-8B-A1B", "pythonic", "think"),
        ("unsloth-Apriel-1.5", "hermes", "none"),
        ("MiniMax-M2", "none", "think"),
        ("NVIDIA-Nemotron-Nano-v2", "none", "think"),
        ("deepseek-ai-DeepSeek-V3.2", "none", "think"),
        ("meetkai-functionary-medium-v3.1", "none", "none"),
    ],
)
def test_published_templates(shared_folder: Path, file: str, tools: str, reasoning: str) -> None:
    found = guess_chat((shared_folder / "templates" / f"{file}.jinja").read_text())
    assert (found.tools, found.reasoning) == (tools, reasoning)


def test_without_a_template() -> None:
    assert guess_chat(None).tools == "none"


@pytest.mark.parametrize(
    ("architecture", "template", "sentence", "task"),
    [
        ("LlamaForCausalLM", True, False, "chat"),
        ("LlamaForCausalLM", False, False, "completion"),
        ("Gemma3ForConditionalGeneration", True, False, "chat"),
        ("GPT2LMHeadModel", False, False, "completion"),
        ("BertModel", False, False, "embedding"),
        ("Qwen3ForCausalLM", True, True, "embedding"),
        ("XLMRobertaForSequenceClassification", False, False, "rerank"),
    ],
)
def test_tasks(architecture: str, template: bool, sentence: bool, task: str) -> None:
    assert guess_task(architecture, template=template, sentence_transformer=sentence) == task
