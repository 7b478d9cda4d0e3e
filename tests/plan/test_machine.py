"""Probing: this host, and hosts made of files in a temporary folder."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import msgspec
import pytest

from openllm.errors import UsageError
from openllm.machine import Machine, engines_installed, find, gpus, load, named, names, probe
from openllm.machine.cgroup import cpu_quota, memory_limit

MIB = 1 << 20
GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def host(root: Path, files: dict[str, str] | None = None) -> Path:
    meminfo = "MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\n"
    cpuinfo = "processor : 0\nflags : fpu sse2 avx2 avx512_bf16 fma ht\n\nprocessor : 1\nflags : fpu\n"
    return write(root, {"proc/meminfo": meminfo, "proc/cpuinfo": cpuinfo, **(files or {})})


def topology(siblings: dict[int, str]) -> dict[str, str]:
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": text
        for cpu, text in siblings.items()
    }


def test_this_host_is_probed_quickly(tmp_path: Path) -> None:
    probe(tmp_path)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        found = probe(tmp_path / "not" / "yet")
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.015 or found.gpus  # nvidia-smi takes longer where there is one
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 0 < found.free_memory <= found.memory
    assert found.free_disk > 0


def test_memory_and_features(tmp_path: Path) -> None:
    found = probe(tmp_path, root=host(tmp_path))
    assert (found.memory, found.free_memory) == (16 * GIB, 8 * GIB)
    assert found.cpu_features == ("avx2", "avx512_bf16", "fma")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_hyperthreads_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    root = host(tmp_path, topology({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}))
    assert probe(tmp_path, root=root).cores == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert probe(tmp_path, root=root).cores == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 9, 10})  # no topology is known of these
    assert probe(tmp_path, root=root).cores == 3


V2 = {
    "proc/self/cgroup": "0::/pod/container\n",
    "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
    "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/pod/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/pod/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    "sys/fs/cgroup/pod/container/memory.max": "max\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory/job/memory.stat": f"total_inactive_file {GIB}\n",
}
# A container sees its own group at the mount, and a path of the host in /proc.
HIDDEN = {
    "proc/self/cgroup": "0::/../../docker/abc\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory.stat": f"inactive_file {GIB}\n",
}


@pytest.mark.parametrize("files", [V2, V1, HIDDEN])
def test_container_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    root = host(tmp_path, files)
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == (4 * GIB, 2 * GIB)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        found = probe(tmp_path, root=root)
        assert (found.cores, found.memory, found.free_memory) == (2, 4 * GIB, 2 * GIB)


def test_no_container_limits(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert memory_limit(tmp_path) is None
    root = write(tmp_path, {"proc/self/cgroup": "2:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"})  # fmt: skip
    assert cpu_quota(root) is None


SMI = """0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559, 81000, 9.0
1, GPU-bb22, NVIDIA GeForce RTX 4090, 24564, 20000, 8.9
2, GPU-cc33, NVIDIA Odd, [N/A], [N/A], 12.1
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi, as there is no GPU here: it prints what the real one does for the same query."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    return tool


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090"]),
        ("1", ["NVIDIA GeForce RTX 4090"]),
        ("1,0", ["NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3"]),
        ("GPU-bb", ["NVIDIA GeForce RTX 4090"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["NVIDIA H100 80GB HBM3"]),
    ],
)
def test_nvidia(visible: str | None, found: list[str]) -> None:
    assert [gpu.name for gpu in gpus.nvidia(visible)] == found


def test_nvidia_values(smi: Path) -> None:
    first = gpus.nvidia()[0]
    assert (first.memory, first.free, first.capability) == (81_559 * MIB, 81_000 * MIB, (9, 0))
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    assert gpus.nvidia() == ()


def test_amd(tmp_path: Path) -> None:
    card = "sys/class/drm/card1/device"
    root = write(tmp_path, {
        f"{card}/vendor": "0x1002\n", f"{card}/mem_info_vram_total": f"{192 * GIB}\n",
        f"{card}/mem_info_vram_used": f"{2 * GIB}\n", f"{card}/product_name": "AMD Instinct MI300X\n",
        "sys/class/drm/card0/device/vendor": "0x1002\n",
        "sys/class/drm/card0/device/mem_info_vram_total": f"{512 * MIB}\n",
        "sys/class/drm/card2/device/vendor": "0x8086\n",
    })  # fmt: skip
    (found,) = gpus.amd(root)
    assert (found.name, found.vendor, found.free) == ("AMD Instinct MI300X", "amd", 190 * GIB)


def test_known_machines() -> None:
    for name in names():
        machine = named(name)
        assert 0 < machine.free_memory < machine.memory
        assert all(0 < gpu.free < gpu.memory for gpu in machine.gpus)
    assert len(named("h100x8").gpus) == 8
    assert len(named("MI300XX2").gpus) == 2
    assert named("laptop-16gb").gpus == ()
    for wrong in ("h100x0", "h101", "", "laptop-16gbx2", "x2"):
        with pytest.raises(UsageError, match="no machine") as caught:
            named(wrong)
        assert "rtx4090" in (caught.value.hint or "")


def test_machine_files(tmp_path: Path) -> None:
    machine = named("a10gx4")
    alone, within = tmp_path / "machine.json", tmp_path / "plan.json"
    alone.write_bytes(msgspec.json.encode(machine))
    within.write_text(json.dumps({"plan": {}, "machine": msgspec.to_builtins(machine)}))
    assert load(alone) == load(within) == find(str(alone)) == machine
    assert find("a10gx4") == machine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not describe"),
        ("[]", "does not describe"),
        ('{"machine": {"name": "x"}}', "does not describe"),
        ('{"name":"x","system":"linux","architecture":"x","cores":0,"memory":1,"free_memory":1,"free_disk":1}',
         "at least 1"),
        ('{"name":"x","system":"linux","architecture":"x","cores":1,"memory":1,"free_memory":1,"free_disk":1,"ram":2}',
         "ram"),
    ],
)  # fmt: skip
def test_wrong_machine_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        find(str(tmp_path / "none.json"))


def test_engines_are_found_without_importing_them() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from openllm.machine import engines_installed; found = engines_installed();"
        "print(sorted({'torch', 'vllm', 'openvino', 'openvino_genai', 'psutil'} & set(sys.modules)), found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert {"echo", "openvino"} <= engines_installed()


def test_a_machine_is_a_value() -> None:
    machine = named("l4")
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine
