"""langchain-openai: an answer, a stream, a forced tool, structured output."""

import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url, model = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_completion_tokens=64)
question = [SystemMessage("You are terse."), HumanMessage("What is the capital of France?")]


class City(BaseModel):
    name: str
    country: str


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is raining in {city}."


whole = chat.invoke(question)
assert "Paris" in whole.text, whole
assert whole.usage_metadata["output_tokens"] > 0, whole
pieces = [piece.text for piece in chat.stream(question)]
assert "".join(pieces) == whole.text, pieces
assert len(pieces) > 2, pieces

called = chat.bind_tools([weather], tool_choice="weather").invoke("How is the weather in Oslo?")
assert [call["name"] for call in called.tool_calls] == ["weather"], called
assert isinstance(weather.invoke(called.tool_calls[0]).content, str)

city = chat.with_structured_output(City, method="json_schema").invoke("Name a city in Italy, as JSON.")
assert isinstance(city, City), city
