"""lm-eval on a task made here: choices by their likelihood, and answers by generating them.

The third argument is a folder with the model's tokenizer.
"""

import json
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

url, model, tokenizer = sys.argv[1:]
FACTS = [
    ("France", "Paris", "Berlin"),
    ("Italy", "Rome", "Oslo"),
    ("Japan", "Tokyo", "Lima"),
    ("Spain", "Madrid", "Cairo"),
]
COMMON = """
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
metadata: {{version: 1}}
"""
CHOICES = """
task: capitals_choice
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: "{{[right, wrong]}}"
doc_to_target: 0
metric_list: [{metric: acc}]
"""
ANSWERS = """
task: capitals_answer
output_type: generate_until
doc_to_text: "What is the capital of {{country}}?"
doc_to_target: "{{right}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match}]
"""

with tempfile.TemporaryDirectory() as folder:
    data = Path(folder, "capitals.jsonl")
    rows = [dict(zip(("country", "right", "wrong"), fact, strict=True)) for fact in FACTS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("choice", CHOICES), ("answer", ANSWERS)):
        Path(folder, f"{name}.yaml").write_text(task + COMMON.format(data=data))
    tasks = TaskManager(include_path=folder, include_defaults=False)
    options = (
        f"model={model},tokenizer={tokenizer},tokenizer_backend=huggingface,num_concurrent=4,max_length=2048"
    )
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=f"{options},base_url={url}/completions",
        tasks=["capitals_choice"],
        task_manager=tasks,
        bootstrap_iters=0,
    )
    assert found["results"]["capitals_choice"]["acc,none"] >= 0.75, found["results"]
    found = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args=f"{options},base_url={url}/chat/completions",
        tasks=["capitals_answer"],
        task_manager=tasks,
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    said = [sample["resps"][0][0] for sample in found["samples"]["capitals_answer"]]
    assert "Paris" in said[0], said
