"""A recipe whose model says the last message again: with the echo engine, a test writes the answer itself."""

from __future__ import annotations

from pathlib import Path

import yaml

from openllm.recipes.registry import shipped_folder

NAME = "parrot"
# It looks at the tools and at a switch, and ends the answer.
TEMPLATE = (
    "{% if tools %}{{ '' }}{% endif %}{% if enable_thinking is defined and not enable_thinking %}Quiet: {% endif %}"
    "{{ messages[-1].content }}{% if add_generation_prompt %}<|im_end|>{% endif %}"
)


def write_recipe(folder: Path) -> None:
    """Write it into a folder of recipes: SmolLM2's weights, for the tokenizer."""
    smollm2 = yaml.safe_load((shipped_folder() / "smollm2.yaml").read_text())
    recipe = {
        **smollm2,
        "family": NAME,
        "title": "Parrot",
        "default": "hermes",
        "chat": {"template": TEMPLATE, "tools": "hermes", "reasoning": "think", "stop": ["<|im_end|>"]},
        "models": [{**smollm2["models"][0], "name": "hermes", "aliases": []}],
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(recipe))
