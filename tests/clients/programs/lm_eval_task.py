"""lm-eval on a task made here: `choose` by the likelihood of each choice, or `answer` by generating.

Arguments: the URL, the model, a folder with its tokenizer, and which of the two.
"""

import json
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

url, model, tokenizer, kind = sys.argv[1:]
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
ANSWERS = r"""
task: {task}
output_type: generate_until
doc_to_text: "{asked}"
doc_to_target: "{{{{right}}}}"
generation_kwargs: {{until: ["\n\n"], max_gen_toks: 24, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
CONTINUED = ANSWERS.format(task="capitals_continued", asked="The capital of {{country}} is")
ANSWERED = ANSWERS.format(task="capitals_answered", asked="What is the capital of {{country}}?")
OPTIONS = (
    f"model={model},tokenizer={tokenizer},tokenizer_backend=huggingface,num_concurrent=4,max_length=2048"
)


def evaluate(task: str, client: str, path: str, **options) -> dict:
    found = lm_eval.simple_evaluate(
        model=client,
        model_args=f"{OPTIONS},base_url={url}{path}",
        tasks=[task],
        task_manager=tasks,
        bootstrap_iters=0,
        **options,
    )
    assert len(found["samples"][task]) == len(FACTS), found
    return found


def check_texts(samples: list[dict]) -> None:
    texts = [sample["resps"][0][0] for sample in samples]
    right = sum(capital in text for (_, capital, _), text in zip(FACTS, texts, strict=True))
    assert right >= 3, texts


with tempfile.TemporaryDirectory() as folder:
    data = Path(folder, "capitals.jsonl")
    rows = [dict(zip(("country", "right", "wrong"), fact, strict=True)) for fact in FACTS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("choice", CHOICES), ("continued", CONTINUED), ("answered", ANSWERED)):
        Path(folder, f"{name}.yaml").write_text(task + COMMON.format(data=data))
    tasks = TaskManager(include_path=folder, include_defaults=False)
    if kind == "choose":
        found = evaluate("capitals_choice", "local-completions", "/completions")
        assert found["results"]["capitals_choice"]["acc,none"] >= 0.75, found["results"]
    else:
        task = "capitals_continued"
        check_texts(evaluate(task, "local-completions", "/completions")["samples"][task])
        task = "capitals_answered"
        chat = "local-chat-completions"
        check_texts(evaluate(task, chat, "/chat/completions", apply_chat_template=True)["samples"][task])
