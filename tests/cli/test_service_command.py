"""``openllm service``: units that systemd accepts."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.servers.service_manager import ServiceManager
from openllm.servers.unit import quoted
from openllm.weights.store import default_root
from tests.cli.conftest import Run
from tests.serving import serving

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
ODD = ("--name", "odd-name", "--engine-option", 'text=a "b" $HOME 100% c\\d')


def unit_of(command: Run, *args: str) -> str:
    if "--system" in args and any(Path(sys.prefix).is_relative_to(home) for home in ("/root", "/home")):
        pytest.skip("a service of the machine is refused where this environment is: in a home folder")
    done = command("service", "install", "--dry-run", *args)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def setting(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name}=")).partition("=")[2]


@needs_systemd
@pytest.mark.parametrize(
    "args",
    [
        ("smollm2", "--backend", "echo"),
        ("smollm2", *ODD),
        ("--system", "smollm2", "--port", "443"),
        ("--system", "smollm2", "--api-key-file", "/etc/openllm/keys.toml", "--memory-max", "4GiB"),
    ],
    ids=["user", "odd words", "low port", "credentials"],
)
def test_systemd_verifies_the_unit(command: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    assert ANALYZE is not None
    path = tmp_path / "openllm-test.service"
    path.write_text(unit_of(command, *args))
    # --user would ask for a running manager; the syntax is the same.
    done = subprocess.run([ANALYZE, "verify", "--man=no", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "openllm-test" not in done.stderr, (
        done.stderr
    )  # it warns of settings that it does not know, and exits 0


@needs_systemd
def test_it_is_exposed_little(command: Run, tmp_path: Path) -> None:
    assert ANALYZE is not None
    path = tmp_path / "openllm-test.service"
    path.write_text(unit_of(command, "--system", "smollm2"))
    done = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--threshold=20", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-500:]


def test_the_command_line_is_what_was_typed(command: Run) -> None:
    words = setting(unit_of(command, "smollm2", *ODD), "ExecStart")
    assert shlex.split(words.replace("%%", "%").replace("$$", "$"))[1:] == [
        "-m",
        "openllm",
        "start",
        "smollm2",
        *ODD,
    ]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=30))
def test_any_word_stays_one_word(word: str) -> None:
    written = quoted(word if not word.startswith("%d/") else "x")
    assert "%" not in written.replace("%%", "")
    assert "$" not in written.replace("$$", "")
    assert written


def test_secrets_are_not_on_the_command_line(command: Run) -> None:
    text = unit_of(command, "--system", "smollm2", "--api-key-file=/etc/keys.toml")
    assert "LoadCredential=keys:/etc/keys.toml" in text
    assert "--api-key-file %d/keys" in setting(text, "ExecStart")
    assert setting(text, "EnvironmentFile") == "-/etc/openllm/openllm.env"
    assert "NoNewPrivileges=yes" in text
    assert "CapabilityBoundingSet=\n" in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("install",), "needs a model"),
        (("install", "smollm2", "--bakend", "echo"), "No such option: --bakend"),
        (("install", "smollm2", "--detach"), "in the background already"),
        (("install", "smollm2", "--log-file", "x"), "journal"),
        (("install", "smollm2", "--unit", "a/b"), "is no name"),
        (("show", "smollm2"), "takes no model"),
        (("show", "--unit", "none-such"), "is not there"),
        (("uninstall", "--unit", "none-such"), "is not there"),
    ],
)
def test_wrong_usage(command: Run, args: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = command("service", *args, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 2
    assert said in done.stderr


def test_without_systemd(command: Run, tmp_path: Path) -> None:
    done = command("service", "install", "smollm2", XDG_CONFIG_HOME=str(tmp_path), PATH="/nowhere")
    assert done.returncode == 4
    assert "no systemd" in done.stderr
    assert "--detach" in done.stderr
    assert list(tmp_path.rglob("*.service")) == []


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemd is not installed")
def test_a_service_is_installed_shown_and_uninstalled(command: Run, tmp_path: Path) -> None:
    places = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "OPENLLM_DATA": str(tmp_path / "data")}
    done = command("service", "install", "smollm2", "--unit", "mine", **places)
    assert done.returncode == 0, done.stderr
    assert "systemctl --user enable --now mine" in done.stdout
    unit = tmp_path / "config/systemd/user/mine.service"
    assert command("service", "show", "--unit", "mine", **places).stdout == unit.read_text()
    secrets = tmp_path / "config/openllm/mine.env"
    assert secrets.stat().st_mode & 0o777 == 0o600
    secrets.write_text("OPENLLM_API_KEY=mine\n")
    assert command("service", "install", "smollm2", "--unit", "mine", **places).returncode == 0
    assert secrets.read_text() == "OPENLLM_API_KEY=mine\n"
    wanted = unit.parent / "default.target.wants"
    wanted.mkdir()
    (wanted / "mine.service").symlink_to(unit)
    assert command("service", "uninstall", "--unit", "mine", **places).returncode == 0
    assert list(unit.parent.rglob("mine.service")) == []


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


def test_a_server_tells_systemd_how_it_is(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    with serving("smollm2", "--backend", "echo", environ=environ) as server:
        assert manager.recv(1000).startswith(b"READY=1")
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert server.stop() == 0
        said = manager.recv(1000)
        while said == b"WATCHDOG=1":
            said = manager.recv(1000)
        assert said == b"STOPPING=1"


def test_after_a_restart_the_new_process_is_the_service(
    manager: socket.socket, environ: dict[str, str]
) -> None:
    environ |= {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    environ["OPENLLM_CACHE"] = str(default_root())
    line = f"WATCHDOG_PID=$$ exec {sys.executable} -m openllm start smollm2 --backend echo --port 0"
    with subprocess.Popen(["sh", "-c", line], env=environ, stderr=subprocess.DEVNULL) as old:
        said = manager.recv(1000)
        assert said.startswith(b"READY=1")
        assert manager.recv(1000) == b"WATCHDOG=1"
        old.send_signal(signal.SIGUSR2)
        while not said.startswith(b"MAINPID="):
            said = manager.recv(1000)
        new = psutil.Process(int(said.removeprefix(b"MAINPID=")))
        try:
            assert new.pid != old.pid
            old.wait(30)
            while manager.recv(1000) != b"WATCHDOG=1":  # what the old one said before it ended comes first
                pass
            time.sleep(0.5)
            manager.setblocking(False)
            heard = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(manager.recv(1000))
            assert b"WATCHDOG=1" in heard
        finally:
            new.terminate()
            psutil.wait_procs([new], timeout=30)


def test_the_watchdog_of_another_process_is_none_of_ours() -> None:
    theirs = {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getppid())}
    assert ServiceManager.from_environment(theirs).watchdog is None
    assert ServiceManager.from_environment({"WATCHDOG_USEC": "2000000"}).watchdog == 2.0
    ServiceManager.from_environment({}).ready()  # says nothing to nobody
