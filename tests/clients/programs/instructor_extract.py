"""instructor: an object by JSON schema and by tool call."""

import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel

url, model = sys.argv[1:]


class Person(BaseModel):
    name: str
    age: int


for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    client = instructor.from_openai(OpenAI(base_url=url, api_key="none"), mode=mode)
    person = client.chat.completions.create(
        model=model,
        response_model=Person,
        max_retries=0,
        temperature=0,
        max_tokens=100,
        messages=[{"role": "user", "content": "Anna is 31 years old."}],
    )
    assert isinstance(person, Person), (mode, person)
