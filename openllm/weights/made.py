"""Checkpoints that `openllm quantize` made on this machine: where they are, and the variants that they add to models.

Layout under the cache: ``quantized/<model>/<mode>/``. A folder of that name is whole: it is renamed to it at the end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from openllm.errors import WeightsError
from openllm.weights.inspect import local_manifests
from openllm.weights.manifest import LocalPath, Manifest

FOLDER = "quantized"
RECORD = "openllm_quantization.json"
"""How the checkpoint was made and what it is worth, beside its weights."""


def made_folder(cache: Path, model: Manifest, mode: str) -> Path:
    """Where the checkpoint of a model (any of its manifests) in ``mode`` is, or would be."""
    return _model_folder(cache, model) / mode


def made_manifests(cache: Path, published: Sequence[Manifest]) -> list[Manifest]:
    """The checkpoints made of a model whose other manifests are ``published``, by name of mode. Reads headers only.

    A variant is called as its mode; if the model has a variant of that name, ``<mode>-local``. What cannot be read is
    left out.
    """
    taken = {each.variant.lower() for each in published}
    found = []
    for folder in sorted(_model_folder(cache, published[0]).glob(f"*/{RECORD}")):
        mode = folder.parent.name
        variant = f"{mode}-local" if mode in taken else mode
        try:
            made = local_manifests(folder.parent)[0]
        except WeightsError:
            continue
        found.append(_as_variant(made, variant, published[0]))
    return found


def _as_variant(made: Manifest, variant: str, model: Manifest) -> Manifest:
    """Files tell what the weights are; how the model is called and talked to is as with its other variants."""
    return msgspec.structs.replace(
        made,
        name=model.name,
        variant=variant,
        context=model.context,
        shape=model.shape,
        chat=model.chat,
        task=model.task,
        license=model.license,
        sees=False,
    )


def _model_folder(cache: Path, model: Manifest) -> Path:
    # A file or folder of a user's own is known by its path: others may have the same name.
    source = model.source
    identity = source.path if isinstance(source, LocalPath) else model.name
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    label = re.sub(r"[^\w.-]+", "--", model.name)[:60]
    return cache / FOLDER / f"{label}-{digest}"
