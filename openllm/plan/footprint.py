"""What a plan's runners should take of memory once they run."""

from __future__ import annotations

from openllm.memory import Footprint, overhead_terms
from openllm.plan.copies import converted_floats
from openllm.plan.values import Plan


def footprint(plan: Plan) -> Footprint:
    """Totals over all of the plan's devices and replicas, in bytes."""
    devices = plan.tensor_parallel
    width = plan.concurrency if plan.kv_cache_bytes else 0
    terms = overhead_terms(
        plan.manifest.shape, plan.engine, plan.device, width, devices=devices, eager=plan.eager
    )
    overhead = devices * sum(term.bytes for term in terms)
    overhead += sum(term.bytes for term in converted_floats(plan, plan.dtype, plan.weight_bytes))
    each = plan.replicas
    return Footprint(each * plan.weight_bytes, each * plan.kv_cache_bytes, each * overhead)
