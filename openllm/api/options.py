"""How the front serves, decided on the command line. Light: it is imported before the HTTP server is."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from openllm.api.access_log import Format
from openllm.api.key_ring import KeyRing
from openllm.errors import UsageError
from openllm.fleet.duration import NEVER


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files; the certificate's may hold the key too. ``password`` opens an encrypted key."""

    certfile: Path
    keyfile: Path | None = None
    password: str | None = None

    def check(self) -> None:
        """Load them, as the server will. Raises ``UsageError``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for file in (self.certfile, self.keyfile):
            if file is not None and not file.is_file():
                raise UsageError(f"{file} is not a file.", hint="Give PEM files.", param="ssl_certfile")
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self.certfile, self.keyfile, password=lambda: self.password or "")
        except (ssl.SSLError, OSError) as error:
            raise UsageError(
                f"The certificate {self.certfile} cannot be used: {_reason(error)}.",
                hint="Give a PEM certificate and its own PEM key; "
                "OPENLLM_SSL_PASSWORD opens a key that is encrypted.",
                param="ssl_certfile",
            ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or "it is not PEM, or the password is wrong"


class FrontOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes.

    Without ``keys`` anyone is answered. ``request_seconds`` None lets a request take as long as it does.
    ``otel_endpoint`` is where traces are sent, if anywhere; ``image_hosts`` may be asked for images. A runner is
    stopped after ``idle_seconds`` without a request; ``start_asleep`` starts it at the first one. Several models share
    ``memory``, None for one; a request waits for ``patience`` before one that is busy is unloaded for it.
    """

    drain_seconds: float
    stall_seconds: float
    load_seconds: float
    longest_body: int
    keys: KeyRing | None = None
    open_metrics: bool = False
    request_seconds: float | None = None
    tls: Tls | None = None
    cors_origins: tuple[str, ...] = ()
    access_log: Format = "off"
    otel_endpoint: str | None = None
    image_hosts: tuple[str, ...] = ()
    idle_seconds: float = NEVER
    start_asleep: bool = False
    memory: int | None = None
    patience: float = 10.0
