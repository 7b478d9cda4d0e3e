"""Every decision of a start, made once and purely, each with its reason."""

from openllm.plan.values import Decision, Overrides, Plan

__all__ = ["Decision", "Overrides", "Plan"]
