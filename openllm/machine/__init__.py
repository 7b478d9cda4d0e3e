"""What this machine has, and what machines of known kinds have."""

from openllm.machine.known import find, load, named, names, sizes
from openllm.machine.packages import EVERYTHING, engines_installed
from openllm.machine.probe import probe
from openllm.machine.resident import resident_bytes
from openllm.machine.values import Gpu, Machine

__all__ = [
    "EVERYTHING",
    "Gpu",
    "Machine",
    "engines_installed",
    "find",
    "load",
    "named",
    "names",
    "probe",
    "resident_bytes",
    "sizes",
]
