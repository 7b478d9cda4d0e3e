"""llm (the command): a call, its function, and an answer from the result.

The model says the last message again: the call that it is sent, then what the function gave.
"""

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
  supports_tools: true
"""
FUNCTION = """
def weather(city: str) -> str:
    "The weather of a city."
    return f"It is raining in {city}."
"""
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "extra-openai-models.yaml").write_text(MODEL)
    environment = {**os.environ, "LLM_USER_PATH": folder}
    llm = [str(Path(sys.executable).parent / "llm"), "-m", "ours", "--key", "none"]
    for extra in ([], ["--no-stream"]):
        argv = [*llm, *extra, "--functions", FUNCTION, CALL]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("It is raining in Oslo."), done.stdout
