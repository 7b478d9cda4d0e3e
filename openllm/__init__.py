"""OpenLLM: one command serves an open language model behind an OpenAI-compatible API."""

__version__ = "0.1.0"
