"""schemathesis on our OpenAPI document: nothing that it sends is a server error, a hang, or answered otherwise than
documented.

A quick round by default; ``make fuzz-api`` sets OPENLLM_FUZZ to the examples an operation of a long one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import MODEL, serving

_QUICK = 5
_EXAMPLES = int(os.environ.get("OPENLLM_FUZZ", _QUICK))
_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(3000)
def test_nothing_that_is_sent_breaks_the_server(tmp_path: Path) -> None:
    with serving(
        MODEL, "--backend", "echo", "--context", "256", "--data-dir", str(tmp_path / "data")
    ) as server:
        server.until_ready()
        argv = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
            "--max-examples", str(_EXAMPLES), "--request-timeout", "20",
            "--phases", "examples,coverage,fuzzing" if _EXAMPLES == _QUICK else "examples,coverage,fuzzing,stateful",
            # A schema cannot say all that a body must be: that a prompt fits the context, for one.
            "--exclude-checks", "positive_data_acceptance",
            "--continue-on-failure", "--warnings", "off", "--no-color",
        ]  # fmt: skip
        environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.fuzz_hooks", "PYTHONPATH": str(_ROOT)}
        done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"(\d+) generated", done.stdout)
        assert found is not None, done.stdout
        assert int(found[1]) > 300
        with server.client as client:
            answer = client.completions.create(model=MODEL, prompt="still here", max_tokens=2)
        assert answer.choices[0].text == "still here"
        assert "Traceback" not in server.log
        assert server.metric("openllm_runner_restarts_total") == 0
