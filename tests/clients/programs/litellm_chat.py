"""litellm: an answer, a stream, a text completion, an error."""

import sys

import litellm

url, model = sys.argv[1:]
options = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "temperature": 0, "max_tokens": 24}
messages = [{"role": "user", "content": "What is the capital of France?"}]

whole = litellm.completion(messages=messages, **options)
assert "Paris" in whole.choices[0].message.content, whole
assert whole.usage.completion_tokens > 0, whole
stream = litellm.completion(messages=messages, stream=True, **options)
text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
assert text == whole.choices[0].message.content, text

completed = litellm.text_completion(
    prompt="Once upon a time", **{**options, "model": f"text-completion-openai/{model}"}
)
assert completed.choices[0].text, completed

try:
    litellm.completion(messages=messages, **{**options, "model": "openai/nobody"})
except litellm.NotFoundError:
    pass
else:
    raise AssertionError("a model that is not served was answered")
