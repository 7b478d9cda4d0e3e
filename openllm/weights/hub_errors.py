"""What the hub's client raises, told as errors of ours with the next thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import errors as hf

from openllm.errors import (
    GatedModel,
    MissingRevision,
    OfflineMiss,
    OpenLLMError,
    SourceUnavailable,
    UnknownModel,
    WeightsError,
)
from openllm.weights.settings import HubSettings

_BUSY = (408, 429)


@contextmanager
def hub_errors(repo: str, revision: str | None, settings: HubSettings) -> Iterator[None]:
    """Turn the client's errors about ``repo`` into ours."""
    try:
        yield
    except (hf.HfUriError, hf.HFValidationError):
        raise UnknownModel(
            f"{repo!r} is no name of a hub repository.", hint="Name it as organisation/name."
        ) from None
    except (hf.LocalEntryNotFoundError, hf.OfflineModeIsEnabled, httpx2.HTTPError) as error:
        raise _translated(error, repo, revision, settings) from error


def _translated(error: Exception, repo: str, revision: str | None, settings: HubSettings) -> OpenLLMError:
    if isinstance(error, hf.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    match error:
        case hf.OfflineModeIsEnabled():
            return OfflineMiss(
                f"{repo} is not on this machine, and HF_HUB_OFFLINE forbids fetching it.",
                hint="Unset HF_HUB_OFFLINE and run the same command again.",
            )
        case hf.GatedRepoError():
            return _gated(repo, settings)
        case hf.RevisionNotFoundError():
            return MissingRevision(
                f"{repo} has no revision {revision or 'main'} on {settings.endpoint}.",
                hint=f"See its branches and tags: {settings.endpoint}/{repo}/tree/main",
            )
        case hf.RepositoryNotFoundError():
            return _unknown(repo, settings)
        case hf.HfHubHTTPError():
            return _refused(error, repo, settings)
    return SourceUnavailable(
        f"{settings.endpoint} cannot be reached: {_said(error)}",
        hint="Check the network, HF_ENDPOINT and any proxy, then run the same command again: it resumes.",
    )


def _gated(repo: str, settings: HubSettings) -> GatedModel:
    accept = f"Accept the licence at {settings.endpoint}/{repo}"
    if settings.token:
        return GatedModel(
            f"{repo} is gated, and this token's account has no access to it.",
            hint=f"{accept} with the account that the token belongs to, then run the same command again.",
        )
    return GatedModel(
        f"{repo} is gated, and no token is set.",
        hint=f"{accept}, then set HF_TOKEN (or run: hf auth login) and run the same command again.",
    )


def _unknown(repo: str, settings: HubSettings) -> UnknownModel:
    private = "its token" if settings.token else "HF_TOKEN"
    return UnknownModel(
        f"{settings.endpoint} has no model {repo}, or it is private.",
        hint=f"Check the spelling; for a private model check {private}.",
    )


def _refused(error: hf.HfHubHTTPError, repo: str, settings: HubSettings) -> OpenLLMError:
    status = error.response.status_code
    if status in (401, 403):
        return GatedModel(
            f"{settings.endpoint} refused access to {repo} ({status}).",
            hint="The token may be wrong, expired or without the right to read: check HF_TOKEN.",
        )
    if status == 404:
        return WeightsError(
            f"A file of {repo} is not on {settings.endpoint}: {error.response.url.path}",
            hint="Correct the file patterns in the recipe, or the revision.",
        )
    waiting = "wait a while" if status in _BUSY else "try again later"
    return SourceUnavailable(
        f"{settings.endpoint} answered {status} for {repo}.",
        hint=f"The hub is down or busy: {waiting} and run the same command again: it resumes.",
    )


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
