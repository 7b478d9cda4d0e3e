"""Options of how a server serves, whatever the model: shared by every command that serves."""

from __future__ import annotations

import math
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from openllm.cli.options import parse_duration, parse_size, takes
from openllm.cli.settings import server_key, ssl_password
from openllm.errors import EngineMissing, UsageError

if TYPE_CHECKING:
    from openllm.api.key_ring import KeyRing
    from openllm.api.options import FrontOptions, Tls
    from openllm.plan import Plan

_WAITING_PER_RUNNING = 16  # how many sequences may wait for each that can run, unless --queue says
_SHORTEST_QUEUE = 2048
# One request has up to 2,048 texts, and each is done with in far less time than an answer is generated.
_TEXTS_PER_RUNNING = 64
_SHORTEST_TEXT_QUEUE = 16_384
_PATIENCE = 10.0
_MAX_BODY = 32 * 1024 * 1024


class AccessLogFormat(StrEnum):
    """How a line is written."""

    JSON = "json"
    TEXT = "text"
    OFF = "off"


class FrontChoices(NamedTuple):
    """What a caller chooses of ``api.options.FrontOptions``. A field's annotation is its option."""

    api_key_file: Annotated[
        Path | None, typer.Option(envvar="OPENLLM_API_KEY_FILE", help="File of API keys; see `openllm keys`.")
    ] = None
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let anyone ask who can connect, without a key.")
    ] = False
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Show /metrics without a key.")] = False
    queue: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Most sequences or texts that wait, 429 beyond; by default 16 or 64 for each that can run.",
        ),
    ] = None
    request_timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Most seconds that a request may take; no limit by default."),
    ] = None
    max_body: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="Longest request body; 32MiB by default."),
    ] = None
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="Serve HTTPS with this certificate chain (PEM).")
    ] = None
    ssl_keyfile: Annotated[
        Path | None, typer.Option(help="Key of the certificate (PEM), if not in its file.")
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of this origin ask, * for any; repeatable."),
    ] = None
    access_log: Annotated[AccessLogFormat, typer.Option(help="A line for each request, on stderr.")] = (
        AccessLogFormat.OFF
    )
    otel_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Send traces there (OTLP over HTTP).")
    ] = None
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            parser=parse_duration,
            metavar="TIME",
            help="Stop the engine after so long without a request, e.g. 5m; never by default.",
        ),
    ] = None
    start_asleep: Annotated[
        bool, typer.Option("--start-asleep", help="Start the engine at the first request.")
    ] = False
    patience: Annotated[
        float | None,
        typer.Option(
            parser=parse_duration,
            metavar="TIME",
            help="Of several models: how long a request waits until a busy one is unloaded for it; 10s by default.",
        ),
    ] = None
    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that open answers have to end after SIGTERM.")
    ] = 30.0
    stall_timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds without a step after which a busy engine is not ready, and is started again unless it"
            " computes; 0: never.",
        ),
    ] = 60.0
    load_timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds without a sign of life after which a loading engine is started again; 0: never.",
        ),
    ] = 600.0

    @property
    def on_demand(self) -> bool:
        """Will the engine be started because of requests?"""
        return self.start_asleep or (self.idle_timeout is not None and self.idle_timeout != math.inf)

    def guard(self, host: str) -> Guard:
        """The keys and the certificate, read and checked. Raises ``UsageError``, also for a host that others can
        reach and that nothing guards."""
        if self.otel_endpoint is not None:
            self._check_tracing(self.otel_endpoint)
        return Guard(self._keys(host), self._tls())

    def longest_queue(self, plan: Plan) -> int:
        """Sequences or texts that may wait for a model that is run as planned."""
        return _usual_queue(plan) if self.queue is None else self.queue

    def options(self, guard: Guard, image_hosts: tuple[str, ...], memory: int | None) -> FrontOptions:
        """These choices; ``memory`` is what several models share."""
        from openllm.api.options import FrontOptions

        return FrontOptions(
            drain_seconds=self.drain_timeout,
            stall_seconds=self.stall_timeout,
            load_seconds=self.load_timeout,
            keys=guard.keys,
            open_metrics=self.open_metrics,
            request_seconds=self.request_timeout,
            longest_body=_MAX_BODY if self.max_body is None else self.max_body,
            tls=guard.tls,
            cors_origins=tuple(self.cors_origin or ()),
            access_log=self.access_log.value,
            otel_endpoint=self.otel_endpoint,
            image_hosts=image_hosts,
            idle_seconds=math.inf if self.idle_timeout is None else self.idle_timeout,
            start_asleep=self.start_asleep,
            memory=memory,
            patience=_PATIENCE if self.patience is None else self.patience,
        )

    def _keys(self, host: str) -> KeyRing | None:
        single = server_key()
        if self.no_auth:
            if self.api_key_file is not None or single is not None:
                raise UsageError("--no-auth is given, and keys too.", hint="Leave one of them out.")
            return None
        if self.api_key_file is None and single is None:
            from openllm.fleet.port import is_loopback

            if not is_loopback(host):
                raise UsageError(
                    f"Anyone who reaches {host} could use this server.",
                    hint="Give --api-key-file or set OPENLLM_API_KEY; or say --no-auth.",
                    param="host",
                )
            return None
        from openllm.api.key_file import KeyFile
        from openllm.api.key_ring import KeyRing

        return KeyRing(None if self.api_key_file is None else KeyFile(self.api_key_file), single)

    def _tls(self) -> Tls | None:
        if self.ssl_certfile is None:
            if self.ssl_keyfile is not None:
                raise UsageError("--ssl-keyfile needs --ssl-certfile.", hint="Give both.")
            return None
        from openllm.api.options import Tls

        tls = Tls(certfile=self.ssl_certfile, keyfile=self.ssl_keyfile, password=ssl_password())
        tls.check()
        return tls

    @staticmethod
    def _check_tracing(endpoint: str) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise UsageError(f"--otel-endpoint {endpoint} is no address.", hint="Like http://localhost:4318.")
        if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
            raise EngineMissing(
                "Traces need OpenTelemetry, which is not installed.", hint="pip install 'openllm[otel]'"
            )


def _usual_queue(plan: Plan) -> int:
    from openllm.weights.encoder_facts import ENCODER_TASKS

    if plan.manifest.task in ENCODER_TASKS:
        return max(_SHORTEST_TEXT_QUEUE, _TEXTS_PER_RUNNING * plan.replicas * plan.concurrency)
    return max(_SHORTEST_QUEUE, _WAITING_PER_RUNNING * plan.replicas * plan.concurrency)


class Guard(NamedTuple):
    """What stands between a server and the network."""

    keys: KeyRing | None
    tls: Tls | None

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"


takes_front_choices = takes(FrontChoices, "front")
