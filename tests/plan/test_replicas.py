"""Plans for several replicas: each gets an equal part of the machine, or the plan says why it cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.engines.base import EngineConfig
from openllm.errors import DoesNotFit, UsageError
from openllm.machine import Gpu
from openllm.machine.gpus import only
from openllm.plan import Overrides, Plan, footprint, make_plan
from openllm.plan.replicas import part
from openllm.runner.wire import Load, frame
from openllm.weights.manifest import Manifest
from tests.fleet.keeping import ECHO
from tests.plan.examples import ALL, ENCODER, GIB, LLAMA, LLAMA_LARGE, SMOLLM2, cpu_host
from tests.plan.test_plan import because, plan


def on_cpu(
    manifests: tuple[Manifest, ...], cores: int = 8, free: int = 60 * GIB, **overrides: object
) -> Plan:
    machine = msgspec.structs.replace(cpu_host(), cores=cores, memory=free, free_memory=free)
    return make_plan(manifests, machine, Overrides(**overrides), installed=ALL)  # type: ignore[arg-type]


def test_one_replica_is_planned_as_if_it_had_not_been_said() -> None:
    assert plan(SMOLLM2, replicas=1) == plan(SMOLLM2)


@pytest.mark.parametrize("manifests", [SMOLLM2, ENCODER])
def test_memory_and_threads_are_divided_and_all_replicas_counted(manifests: tuple[Manifest, ...]) -> None:
    alone, made = on_cpu(manifests), on_cpu(manifests, replicas=4)
    assert (made.replicas, made.threads, alone.threads) == (4, 2, 8)
    assert made.concurrency == alone.concurrency
    assert footprint(made).total <= 60 * GIB
    assert footprint(made).total == 4 * footprint(msgspec.structs.replace(made, replicas=1)).total
    assert "1/4 of 60.0 GiB free and 8 cores" in because(made, "replicas")
    assert "divided between the replicas" in because(made, "threads")
    assert because(made, "memory of all").startswith("4 x weights")


def test_threads_that_were_asked_for_are_those_of_each() -> None:
    assert on_cpu(SMOLLM2, replicas=4, threads=4).threads == 4
    with pytest.raises(UsageError, match="--threads 5 for each of 4 replicas") as raised:
        on_cpu(SMOLLM2, replicas=4, threads=5)
    assert "--threads 2" in (raised.value.hint or "")


def test_more_replicas_than_cores_are_refused_unless_nothing_is_computed() -> None:
    with pytest.raises(UsageError, match="more than the 8 cores") as raised:
        on_cpu(SMOLLM2, replicas=9)
    assert raised.value.hint == "Use --replicas 8 or less."
    assert on_cpu(SMOLLM2, replicas=9, backend="echo").replicas == 9


def test_what_does_not_fit_so_often_says_how_often_it_would() -> None:
    with pytest.raises(DoesNotFit) as raised:
        on_cpu(LLAMA, replicas=8, free=20 * GIB)
    hint = raised.value.hint or ""
    assert "This is for each of 8 replicas." in hint
    fewer = next(count for count in range(1, 8) if f"--replicas {count} would fit." in hint)
    assert on_cpu(LLAMA, replicas=fewer, free=20 * GIB).replicas == fewer
    with pytest.raises(DoesNotFit):
        on_cpu(LLAMA, replicas=fewer + 1, free=20 * GIB)


def test_each_replica_has_gpus_of_its_own() -> None:
    made = plan(SMOLLM2, "h100x4", replicas=4)
    assert (made.device, made.tensor_parallel) == ("cuda", 1)
    assert made.gpus == ((0,), (1,), (2,), (3,))
    assert "1 of 4 GPUs for its own" in because(made, "replicas")
    made = plan(LLAMA_LARGE, "h100x4", replicas=2, variant="bf16")
    assert (made.tensor_parallel, made.gpus) == (2, ((0, 1), (2, 3)))
    assert plan(LLAMA_LARGE, "h100x4").gpus == ()


def test_too_few_gpus_are_refused_rather_than_left_for_the_cpu() -> None:
    with pytest.raises(UsageError, match="--replicas 3 need 3 GPUs; there are 2") as raised:
        plan(SMOLLM2, "h100x2", replicas=3)
    assert raised.value.hint == "Use --replicas 2 or less, or --device cpu."
    with pytest.raises(UsageError, match="--replicas 2 of 2 GPUs each need 4 GPUs"):
        plan(LLAMA_LARGE, "h100x2", replicas=2, tensor_parallel=2)
    made = plan(SMOLLM2, "h100x2", replicas=3, device="cpu")
    assert (made.device, made.replicas, made.gpus) == ("cpu", 3, ())


def test_a_part_is_as_good_as_the_worst() -> None:
    gpus = tuple(
        Gpu(name=f"gpu{number}", memory=80 * GIB, free=free * GIB)
        for number, free in enumerate((70, 60, 50, 75))
    )
    each = part(msgspec.structs.replace(cpu_host(), gpus=gpus), 2)
    assert [gpu.free // GIB for gpu in each.gpus] == [50, 60]


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 16))
def test_parts_are_never_more_than_the_whole(cores: int, replicas: int, gpus: int) -> None:
    whole = msgspec.structs.replace(
        cpu_host(), cores=cores, gpus=tuple(Gpu(name="g", memory=GIB, free=GIB) for _ in range(gpus))
    )
    each = part(whole, replicas)
    assert each.cores * replicas <= max(cores, replicas)
    assert each.free_memory * replicas <= whole.free_memory
    assert len(each.gpus) * replicas <= gpus or gpus < replicas


@pytest.mark.parametrize(
    ("visible", "indices", "left"),
    [(None, (2, 3), "2,3"), ("4,7, 5", (1, 2), "7,5"), ("GPU-a,GPU-b", (0,), "GPU-a")],
)
def test_a_replica_s_gpus_are_named_as_the_user_has_named_them(
    visible: str | None, indices: tuple[int, ...], left: str
) -> None:
    assert only(indices, visible) == left


RUNNER = """
import os, socket, sys
from openllm.runner.life import live
live(socket.socket(fileno=int(sys.argv[1])))
print(os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


@pytest.mark.parametrize(
    ("config", "visible"),
    [
        (msgspec.structs.replace(ECHO, replica=1, gpus=((0, 1), (2, 3))), "6,7"),
        (ECHO, "4,5,6,7"),
    ],
)
def test_a_runner_leaves_its_engine_the_gpus_of_its_replica(config: EngineConfig, visible: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame(Load(config)))
        ours.shutdown(socket.SHUT_WR)  # it ends when it has loaded
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "4,5,6,7"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.split() == [visible]
