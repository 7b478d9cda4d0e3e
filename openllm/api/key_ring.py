"""The keys that a server takes. Follows its file: a key that is taken out stops working within a second."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable

from openllm.api.account import Account
from openllm.api.key_file import Entry, KeyFile, digest
from openllm.errors import InvalidKeyFile

_LOOK_SECONDS = 1.0
_log = logging.getLogger("openllm.api")


class KeyRing:
    """The keys of a file, and ``single``, a key that the environment holds. Raises ``InvalidKeyFile``."""

    def __init__(
        self,
        file: KeyFile | None,
        single: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._single = None if single is None else Entry("environment", digest(single))
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._stamp = self._look()
        self._looked = clock()
        self._take(file.read() if file is not None else [])

    def find(self, key: str) -> tuple[Entry, Account] | None:
        """Whose key it is, and what is counted against its limits."""
        now = self._clock()
        if self._file is not None and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._follow(self._file)
        # Looking a hash up tells nothing of a key by its time: nobody can choose the hash of what they send.
        shown = digest(key)
        entry = self._entries.get(shown)
        if entry is None or not hmac.compare_digest(entry.sha256, shown):
            return None
        return entry, self._account(entry)

    def reload(self) -> str:
        """Read the file now, without waiting for it to be followed. How many keys there are. Raises
        ``InvalidKeyFile``, and then they stay as they were."""
        if self._file is not None:
            self._stamp = self._look()
            self._take(self._file.read())
        return f"{len(self)} keys"

    def __len__(self) -> int:
        return len(self._entries)

    def _account(self, entry: Entry) -> Account:
        account = self._accounts.get(entry.sha256)
        if account is None or account.limits != entry.limits:
            account = self._accounts[entry.sha256] = Account(entry.name, entry.limits, self._clock)
        return account

    def _follow(self, file: KeyFile) -> None:
        """Read the file again if it was changed. One that is wrong changes nothing."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(file.read())
        except InvalidKeyFile as error:
            _log.error("the keys stay as they were: %s", error.message)

    def _take(self, entries: list[Entry]) -> None:
        known = entries if self._single is None else [*entries, self._single]
        self._entries = {entry.sha256: entry for entry in known}

    def _look(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            found = self._file.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
