"""llm (the command): a model of extra-openai-models.yaml; streamed and not, by a schema, in a chat."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, model = sys.argv[1:]
MODEL = f"""
- model_id: ours
  model_name: {model}
  api_base: {url}
  api_key_name: ours
  supports_schema: true
"""

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "extra-openai-models.yaml").write_text(MODEL)
    environment = {**os.environ, "LLM_USER_PATH": folder}

    def llm(*argv: str) -> str:
        command = [str(Path(sys.executable).parent / "llm"), *argv, "-m", "ours", "--key", "none"]
        options = ["-o", "temperature", "0", "-o", "max_tokens", "48"]
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    streamed = llm("What is the capital of France?")
    assert "Paris" in streamed, streamed
    assert llm("What is the capital of France?", "--no-stream") == streamed
    assert llm("And of Spain?", "--continue").strip()
    person = {
        "type": "object",
        "properties": {"age": {"type": "integer", "enum": [30, 31]}},
        "required": ["age"],
    }
    assert json.loads(llm("Anna is 31 years old.", "--schema", json.dumps(person)))["age"] in (30, 31)
