"""llm (the command): a model of extra-openai-models.yaml, streamed and not."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, model = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: {model}\n  api_base: {url}\n  api_key_name: ours\n"
    )
    environment = {**os.environ, "LLM_USER_PATH": folder}
    command = [str(Path(sys.executable).parent / "llm"), "-m", "ours", "--key", "none"]
    for extra in ([], ["--no-stream"]):
        argv = [*command, *extra, "-o", "temperature", "0", "What is the capital of France?"]
        said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
        assert "Paris" in said, said
