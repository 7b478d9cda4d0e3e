"""Every decision of a start, made once and purely, each with its reason."""

from openllm.plan.adapters import check_adapters, check_backend
from openllm.plan.footprint import footprint
from openllm.plan.make import make_plan
from openllm.plan.narrow import of_variant
from openllm.plan.options import Option, options
from openllm.plan.route import BACKENDS
from openllm.plan.sizing import NoRoom
from openllm.plan.values import Decision, Overrides, Plan

__all__ = [
    "BACKENDS",
    "Decision",
    "NoRoom",
    "Option",
    "Overrides",
    "Plan",
    "check_adapters",
    "check_backend",
    "footprint",
    "make_plan",
    "of_variant",
    "options",
]
