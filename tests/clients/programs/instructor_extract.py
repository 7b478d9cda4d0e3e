"""instructor: objects by JSON schema, by tool call and by Responses; whole, growing, listed, and later."""

import asyncio
import sys
from typing import Literal

import instructor
from instructor import Mode
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

url, model = sys.argv[1:]


class Person(BaseModel):
    name: Literal["Anna", "Bob"]
    age: int = Field(ge=0, le=150)


connection = {"base_url": url, "api_key": "none", "max_retries": 0}
asked = {
    "model": model,
    "max_retries": 0,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Anna is 31 years old."}],
}

for mode in (Mode.JSON_SCHEMA, Mode.TOOLS, Mode.TOOLS_STRICT):
    chat = instructor.from_openai(OpenAI(**connection), mode=mode).chat.completions
    person = chat.create(response_model=Person, max_tokens=100, **asked)
    assert isinstance(person, Person), (mode, person)
    growing = list(chat.create_partial(response_model=Person, max_tokens=100, **asked))
    assert len(growing) > 1, (mode, growing)
    assert growing[-1].model_dump() == person.model_dump(), (mode, growing)
    _, answer = chat.create_with_completion(response_model=Person, max_tokens=100, **asked)
    assert answer.usage.completion_tokens > 0, (mode, answer)

client = instructor.from_openai(OpenAI(**connection), mode=Mode.RESPONSES_TOOLS)
person = client.responses.create(
    model=model,
    input="Anna is 31 years old.",
    response_model=Person,
    temperature=0,
    max_output_tokens=100,
    max_retries=0,
)
assert isinstance(person, Person), person


async def later() -> Person:
    client = instructor.from_openai(AsyncOpenAI(**connection), mode=Mode.JSON_SCHEMA)
    return await client.chat.completions.create(response_model=Person, max_tokens=100, **asked)


assert isinstance(asyncio.run(later()), Person)
