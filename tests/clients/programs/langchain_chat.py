"""langchain-openai: answers, streams, a tool loop, structured output; by chat completions and by Responses."""

import asyncio
import sys
from typing import Literal

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

url, model = sys.argv[1:]
options = {"base_url": url, "api_key": "none", "model": model, "temperature": 0, "max_retries": 0}
question = [SystemMessage("You are terse."), HumanMessage("What is the capital of France?")]


class City(BaseModel):
    """A city."""

    name: Literal["Rome", "Milan"]
    country: str = Field(max_length=12)


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"It is raining in {city}."


def check_answers(chat: ChatOpenAI) -> None:
    whole = chat.invoke(question)
    assert "Paris" in whole.text, whole
    assert whole.usage_metadata["output_tokens"] > 0, whole
    pieces = list(chat.stream(question))
    assert "".join(piece.text for piece in pieces) == whole.text, pieces
    assert len(pieces) > 5, pieces
    assert chat.batch([question, question])[1].text == whole.text

    async def later() -> list[str]:
        answer = await chat.ainvoke(question)
        return [answer.text, "".join([piece.text async for piece in chat.astream(question)])]

    assert asyncio.run(later()) == [whole.text, whole.text]


def check_tool_loop(chat: ChatOpenAI) -> None:
    asked = HumanMessage("How is the weather in Oslo?")
    forced = chat.bind_tools([weather], tool_choice="weather")
    called = forced.invoke([asked])
    assert isinstance(called, AIMessage)
    (call,) = called.tool_calls
    assert call["name"] == "weather", called
    assert call["args"]["city"] in ("Oslo", "Rome"), called
    streamed = AIMessageChunk("")
    for chunk in forced.stream([asked]):
        streamed += chunk
    assert [(found["name"], found["args"]) for found in streamed.tool_calls] == [("weather", call["args"])]
    result = weather.invoke(call)
    assert "raining" in result.content
    told = chat.bind_tools([weather], tool_choice="none").invoke([asked, called, result])
    assert told.text, told
    assert not told.tool_calls, told


def check_structured_output(chat: ChatOpenAI) -> None:
    for method in ("json_schema", "function_calling"):
        city = chat.with_structured_output(City, method=method).invoke("Name a city in Italy, as JSON.")
        assert isinstance(city, City), (method, city)


chat = ChatOpenAI(max_completion_tokens=64, **options)
responses = ChatOpenAI(max_completion_tokens=64, use_responses_api=True, **options)
for each in (chat, responses):
    check_answers(each)
    check_tool_loop(each)
    check_structured_output(each)

text = OpenAI(max_tokens=8, **options)
assert "".join(text.stream("The capital of France is")) == text.invoke("The capital of France is")
