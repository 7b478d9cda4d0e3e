"""A systemd unit that runs one server, with no more rights than that needs. Pure: text from values.

Not among the restrictions: MemoryDenyWriteExecute, because engines compile to machine code, and ProcSubset: they
read /proc/cpuinfo and /proc/meminfo.
"""

from __future__ import annotations

import msgspec

_RESTRICTIONS = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""
# A user's manager can make mounts only in a user namespace.
_USERS = """\
PrivateUsers=yes
"""
_SYSTEMS = """\
DynamicUser=yes
StateDirectory=openllm
CacheDirectory=openllm
"""
_LONG_START_SECONDS = 90  # until it listens; weights are fetched behind that
_SPARE_SECONDS = 15


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """``command`` is the server's command line; ``credentials`` are (name, file) that systemd reads for it, which the
    command line calls ``%d/name``, and is therefore escaped already. ``writable`` are folders; ``memory_max`` in bytes;
    ``capability`` is the only one that a system's service has."""

    description: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    environment_file: str
    drain_seconds: float
    system: bool
    folder: str | None = None
    writable: tuple[str, ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    memory_max: int | None = None
    devices: bool = False
    capability: str = ""

    def text(self) -> str:
        """The file."""
        return "\n".join((self._unit(), self._service() + self._rights(), self._install()))

    def _unit(self) -> str:
        lines = ["[Unit]", f"Description={escaped(self.description)}"]
        if self.system:
            lines += ["Wants=network-online.target", "After=network-online.target"]
        return "\n".join(lines) + "\n"

    def _service(self) -> str:
        lines = [
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={' '.join(map(quoted, self.command))}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            # The front ends the engine; a signal to both would cut its open answers off.
            "KillMode=mixed",
            "Restart=on-failure",
            "RestartSec=2",
            # What was typed wrongly stays wrong.
            "RestartPreventExitStatus=2",
            f"TimeoutStartSec={_LONG_START_SECONDS}",
            f"TimeoutStopSec={self.drain_seconds + _SPARE_SECONDS:.0f}",
            "WatchdogSec=60",
            "LimitNOFILE=65536",
            f"EnvironmentFile=-{escaped(self.environment_file)}",
        ]
        lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in self.environment]
        lines += [f"LoadCredential={name}:{escaped(path)}" for name, path in self.credentials]
        if self.folder is not None:
            lines.append(f"WorkingDirectory={escaped(self.folder)}")
        if self.memory_max is not None:
            lines.append(f"MemoryMax={self.memory_max}")
        return "\n".join(lines) + "\n"

    def _rights(self) -> str:
        text = _RESTRICTIONS + (_SYSTEMS if self.system else _USERS)
        if not self.devices:
            text += "PrivateDevices=yes\n"
        if self.system:
            text += f"CapabilityBoundingSet={self.capability}\n"
            text += f"AmbientCapabilities={self.capability}\n" if self.capability else ""
        return text + "".join(f"ReadWritePaths={quoted(f'-{path}')}\n" for path in self.writable)

    def _install(self) -> str:
        return f"[Install]\nWantedBy={'multi-user' if self.system else 'default'}.target\n"


def escaped(text: str) -> str:
    """For a value that is taken as it is, but for specifiers. Line feeds would begin another setting."""
    return text.replace("%", "%%").replace("\n", " ")


def quoted(text: str) -> str:
    """One word of a value that is split, as systemd.syntax(7) has it. ``%d`` at its begin stays the folder of
    credentials."""
    folder, rest = ("%d", text[2:]) if text.startswith("%d/") else ("", text)
    plain = escaped(rest).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    word = folder + plain
    return word if word and not set(word) & set(" \t'\"\\;") else f'"{word}"'
