"""``python -m benchmarks.warm``: the first token of a client whose long system prompt the engine has, or has not, read
before (``--warm``). Medians of fresh servers; nothing else should run on the machine."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.process import HOST, Server, free_port

_SENTENCE = "You are the assistant of a shop that sells boats, oars, sails and ropes to people by the sea. "
_QUESTION = {"role": "user", "content": "Do you have oars?"}
_TOKENS_A_SENTENCE = 22
_READY_SECONDS = 120.0


def first_token(model: str, options: list[str], prompt: str, warm: Path | None) -> tuple[float, int]:
    """(seconds to the first token of the first client, tokens of its prompt)."""
    argv = [sys.executable, "-m", "openllm", "start", model, "--port", str(port := free_port()), *options]
    argv += [] if warm is None else ["--warm", str(warm)]
    with tempfile.TemporaryDirectory() as folder, Server(argv, {}, port, Path(folder) / "log") as server:
        url = f"http://{HOST}:{port}"
        with httpx.Client(base_url=url, timeout=_READY_SECONDS) as client:
            _until(client, server, "ready" if warm is None else "warm: 1 prompts")
            body: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "system", "content": prompt}, _QUESTION],
            }
            body |= {
                "max_tokens": 4,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            begun, first, tokens = time.perf_counter(), 0.0, 0
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for line in answer.iter_lines():
                    if '"content":"' in line and '"content":""' not in line and not first:
                        first = time.perf_counter() - begun
                    if '"prompt_tokens":' in line:
                        tokens = int(line.partition('"prompt_tokens":')[2].partition(",")[0])
    return first, tokens


def _until(client: httpx.Client, server: Server, told: str) -> None:
    """Wait until the server has told something in its log, and have its front do once what it does at first."""
    ends = time.monotonic() + _READY_SECONDS
    while told not in server.log.read_text():
        server.check_alive()
        if time.monotonic() > ends:
            raise server.failure(f"no {told!r} after {_READY_SECONDS:.0f} s")
        time.sleep(0.02)
    model = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [_QUESTION], "max_tokens": 1}
    client.post("/v1/chat/completions", json=body).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=1000, help="of the system prompt, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("options", nargs="*", help="of openllm start, after --")
    chosen = parser.parse_args()
    prompt = _SENTENCE * (chosen.tokens // _TOKENS_A_SENTENCE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rules.txt"
        file.write_text(prompt)
        for name, warm in (("cold", None), ("--warm", file)):
            rounds = [first_token(chosen.model, chosen.options, prompt, warm) for _ in range(chosen.rounds)]
            times = sorted(each[0] for each in rounds)
            print(
                f"{name:8} {rounds[0][1]} tokens: first token after {statistics.median(times) * 1000:.0f} ms "
                f"({times[0] * 1000:.0f} to {times[-1] * 1000:.0f})"
            )


if __name__ == "__main__":
    main()
