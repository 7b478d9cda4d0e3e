"""What a route's weights take in memory as they run."""

from __future__ import annotations

from openllm.memory import Part, Term, embedding_parameters, weight_term
from openllm.plan.route import Route
from openllm.plan.support import bits, is_float

_UNKNOWN_BITS = 8.5  # of weights in a mode that no table knows, and of a size that nobody told


def running_weights(route: Route, dtype: str) -> Term:
    """The files' own size where they run as stored, else their numbers times the bits; ``dtype`` is of floats."""
    manifest, form = route.manifest, route.quantization
    if form == "none":
        built = route.engine == "openvino" and manifest.format == "safetensors"  # floats as they are read
        form = "float32" if built else dtype if dtype != "auto" else "float16"
    kept = (
        embedding_parameters(manifest.shape)
        if route.engine != "openvino" and not is_float(route.quantization)
        else 0
    )
    wide = bits(dtype) or 16.0  # of what quantizers leave as floats
    if (
        route.how == "as stored"
        and manifest.bytes
        and (form in (manifest.quantization, manifest.dtype) or not bits(form))
    ):
        return _stored_term(manifest.bytes, kept, wide - (bits(manifest.dtype) or 16.0))
    width = bits(form) or _UNKNOWN_BITS
    rest = manifest.shape.parameters - kept
    return weight_term((Part(rest, width), Part(kept, wide, "of the embedding")))


def _stored_term(size: int, kept: int, wider: float) -> Term:
    """Files of a known size; the floats among quantized weights are held in another dtype, ``wider`` bits wider."""
    more = int(kept * wider / 8)
    text = f"{size:,} B in the files"
    return Term(
        "weights", f"{text} + {kept:,} of the embedding x {wider:g} bits / 8" if more else text, size + more
    )
