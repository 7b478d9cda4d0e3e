"""Images for vLLM: from files to what its core takes, through vLLM's own renderer and the model's own processor.

The processor puts as many tokens in place of each mark as the model wants for that image, which only it knows.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from vllm.renderers import renderer_from_config
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.v1.engine.input_processor import InputProcessor

from openllm.engines.base import Generation
from openllm.errors import ContextLengthExceeded, RequestError

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


class VLLMVision:
    """``settings`` are vLLM's, made with a tokenizer; ``context`` is in tokens."""

    def __init__(self, settings: Any, context: int, max_images: int) -> None:
        self._model_config = settings.model_config
        self._renderer: Any = renderer_from_config(settings)
        self._processor: Any = InputProcessor(settings, self._renderer)
        self._context = context
        self._max_images = max_images
        self._mark = _mark(settings.model_config.hf_config)

    def check(self, request: Generation) -> None:
        """Raise ``RequestError`` unless the prompt has a mark for each image, and no other.

        Whoever writes a mark into a text would move the images to where he likes, or have the model read a picture
        that is not there.
        """
        marks = request.prompt.count(self._mark) if self._mark is not None else len(request.images)
        if marks != len(request.images):
            raise RequestError(
                f"There are {len(request.images)} images, and {marks} marks of images in the prompt.",
                hint="Do not write the model's own mark of an image into a text.",
                param="messages",
            )

    def core_request(self, request: Generation, params: Any, lora: Any) -> Any:
        """vLLM's request for a sequence with images. Blocks while they are decoded and cut.

        An answer ends where the context does: ``params.max_tokens`` is lowered to what the images leave. Raises
        ``RequestError`` for a file that is no whole image or too many images, ``ContextLengthExceeded`` if they leave
        nothing.
        """
        if len(request.images) > self._max_images:
            raise RequestError(
                f"There are {len(request.images)} images; the most is {self._max_images}.",
                hint="Send fewer.",
                param="messages",
            )
        prompt = {
            "prompt_token_ids": request.prompt,
            "multi_modal_data": {"image": [_decoded(each) for each in request.images]},
        }
        try:
            parsed = parse_model_prompt(self._model_config, prompt)
            (rendered,) = self._renderer.render_cmpl([parsed], self._renderer.default_cmpl_tok_params)
        except Exception as error:  # each model's processor has errors of its own
            lines = str(error).splitlines() or [type(error).__name__]
            raise RequestError(
                f"The images do not go with the prompt: {lines[0][:300]}",
                hint="Send each image as a part of the type image_url, in a message of the user.",
                param="messages",
            ) from error
        left = self._context - len(rendered["prompt_token_ids"])
        if left < 1:
            raise ContextLengthExceeded(
                f"Text and images are {self._context - left} tokens; the context is {self._context}, answer included.",
                hint="Send smaller or fewer images.",
                param="messages",
            )
        params.max_tokens = min(params.max_tokens, left)
        params.min_tokens = min(params.min_tokens, left)
        return self._processor.process_inputs(
            str(request.id), rendered, params, supported_tasks=("generate",), lora_request=lora
        )


def _mark(config: Any) -> int | None:
    """The id of the token that stands for an image before the processor has seen it, if the model names one."""
    for name in ("image_token_id", "image_token_index"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    return None


def engine_args(max_images: int) -> dict[str, Any]:
    """Of vLLM's ``EngineArgs``: the processor reads tokenizer and settings beside the weights; what it made of an
    image is not kept, as the front sends each image whole."""
    return {
        "skip_tokenizer_init": False,
        "limit_mm_per_prompt": {"image": max_images, "video": 0, "audio": 0},
        "mm_processor_cache_gb": 0,
    }


def _decoded(file: bytes) -> Any:
    """The (first) picture in RGB. Its size was looked at by the front."""
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(
            "An image cannot be decoded.", hint="Check that the file is whole.", param="messages"
        ) from error
