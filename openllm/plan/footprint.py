"""What a plan's runner should take of memory once it runs."""

from __future__ import annotations

from openllm.memory import Footprint, overhead_bytes
from openllm.plan.values import Plan


def footprint(plan: Plan) -> Footprint:
    """Totals over all of the plan's devices, in bytes: what it was sized with."""
    shape = plan.manifest.shape
    width = plan.concurrency if plan.kv_cache_bytes else 0
    overhead = overhead_bytes(shape, plan.engine, plan.device, width)
    return Footprint(plan.weight_bytes, plan.kv_cache_bytes, overhead * plan.tensor_parallel)
