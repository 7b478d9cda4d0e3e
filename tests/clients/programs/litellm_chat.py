"""litellm: answers, streams, a tool, a schema, Responses, and its own client of Anthropic's Messages."""

import asyncio
import json
import sys
from typing import Literal

import litellm
from pydantic import BaseModel

url, model = sys.argv[1:]
options = {"api_key": "none", "temperature": 0, "max_tokens": 48, "num_retries": 0}
OPENAI = {"model": f"openai/{model}", "api_base": url}
ANTHROPIC = {"model": f"anthropic/{model}", "api_base": url.removesuffix("/v1")}
messages = [{"role": "user", "content": "What is the capital of France?"}]


class City(BaseModel):
    name: Literal["Rome", "Milan"]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "weather"}}


def said(stream) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


for server in (OPENAI, ANTHROPIC):
    whole = litellm.completion(messages=messages, **server, **options)
    text = whole.choices[0].message.content
    assert "Paris" in text, whole
    assert whole.usage.completion_tokens > 0, whole
    assert said(litellm.completion(messages=messages, stream=True, **server, **options)) == text
    later = asyncio.run(litellm.acompletion(messages=messages, **server, **options))
    assert later.choices[0].message.content == text, later

    asked = [{"role": "user", "content": "How is the weather in Oslo?"}]
    called = litellm.completion(messages=asked, tools=[TOOL], tool_choice=NAMED, **server, **options)
    message = called.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather", called
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome"), called
    asked += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "Rain."}]
    told = litellm.completion(messages=asked, tools=[TOOL], tool_choice="none", **server, **options)
    assert told.choices[0].message.content, told

    try:
        litellm.completion(messages=messages, **{**server, **options, "model": f"{server['model']}-not"})
    except litellm.NotFoundError:
        pass
    else:
        raise AssertionError("a model that is not served was answered")

city = litellm.completion(messages=messages, response_format=City, **OPENAI, **options)
City.model_validate_json(city.choices[0].message.content)

completed = litellm.text_completion(
    prompt="Once upon a time", **{**OPENAI, **options, "model": f"text-completion-openai/{model}"}
)
assert completed.choices[0].text, completed

response = litellm.responses(
    input="What is the capital of France?",
    temperature=0,
    max_output_tokens=48,
    api_key="none",
    **OPENAI,
)
assert "Paris" in response.output_text, response
