"""Which tests one process runs, where several share them (``-n 2``): those that share something costly.

pytest-xdist 3.8 has groups of its own, but writes them to where pytest 9.2 does not look, and so mixes all tests.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# Folders whose tests share engines, which take long to start: longest first.
_FOLDERS = ("engines", "encoders", "clients")
_SERVERS = {
    "tests/api/test_logprobs_real.py": "vLLM in float32",
    "tests/api/test_text_equality.py": "vLLM in float32",
}


def group_of(nodeid: str) -> str:
    """The folder, the server or the module that a test shares with others."""
    path = nodeid.split("::", 1)[0]
    folder = path.split("/")[1]
    return folder if folder in _FOLDERS else _SERVERS.get(path, path)


def place_of(nodeid: str) -> int:
    """When a test comes: what takes long first, so that no process is alone with it at the end."""
    group = group_of(nodeid)
    return _FOLDERS.index(group) if group in _FOLDERS else len(_FOLDERS)


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Hands whole groups to processes."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
