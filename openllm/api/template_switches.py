"""What a request may tell the chat template besides messages and tools."""

from __future__ import annotations

from typing import Any

from openllm.api.parameters import ChatRequest
from openllm.chat.answer_format import NONE, AnswerFormat
from openllm.chat.call_traits import CallTraits
from openllm.errors import RequestError, UnsupportedParameter, quoted

# Of other fields of the request, or the template's own affair.
_TAKEN = frozenset(
    ("messages", "tools", "add_generation_prompt", "continue_final_message", "raise_exception")
)
_HARMONY_EFFORTS = ("low", "medium", "high")


def template_switches(request: ChatRequest, traits: CallTraits, form: AnswerFormat) -> dict[str, Any]:
    """The template's variables, ``chat_template_kwargs`` over what ``reasoning_effort`` means to it.
    A model that does not reason may be told not to.

    Raises ``UnsupportedParameter`` for what the template does not look at, as it would have no effect.
    """
    switches = _effort(request, traits, form)
    for name, value in (request.chat_template_kwargs or {}).items():
        where = f"chat_template_kwargs.{name}"
        if name in _TAKEN:
            raise RequestError(
                f"{where} cannot be set there.", hint="Use the request's own field.", param=where
            )
        if name not in traits.variables:
            known = ", ".join(name for name in (traits.switch, traits.effort) if name)
            hint = f"It knows {known}." if known else "Leave it out."
            raise UnsupportedParameter(
                f"The model's chat template does not look at {quoted(name)}.", hint=hint, param=where
            )
        switches[name] = value
    return switches


def _effort(request: ChatRequest, traits: CallTraits, form: AnswerFormat) -> dict[str, Any]:
    effort = request.reasoning_effort
    if effort is None:
        return {}
    if form.harmony and effort not in _HARMONY_EFFORTS:
        raise UnsupportedParameter(
            f"This model does not know the reasoning_effort {effort!r}.",
            hint=f"Use one of {', '.join(_HARMONY_EFFORTS)}.",
            param="reasoning_effort",
        )
    switches: dict[str, Any] = {}
    if traits.effort:
        switches[traits.effort] = effort
    if traits.switch:
        switches[traits.switch] = effort != "none"
    if not switches and not (effort == "none" and form.reasoning == NONE):
        raise UnsupportedParameter(
            "This model's reasoning cannot be set: its chat template has no switch for it.",
            hint="Leave reasoning_effort out.",
            param="reasoning_effort",
        )
    return switches
