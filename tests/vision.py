"""A tiny random vision model (Idefics3: its processor needs no torchvision), and what transformers makes of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

_SPECIAL = (
    "<s>", "</s>", "<pad>", "<unk>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)  # fmt: skip
_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %} {% endfor %}assistant:"
)


class TinyVision:
    """To be made in a process of its own; writes the model with all that goes with it into ``folder``."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

        torch.manual_seed(0)
        torch.set_num_threads(1)
        self._torch = torch
        tokenizer = _tokenizer()
        config = Idefics3Config(
            vision_config={
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "initializer_range": 0.3,
            },
            text_config=LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, head_dim=32, max_position_embeddings=512,
                bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.3,
            ),
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=2,
            scale_factor=2,
            tie_word_embeddings=False,
        )  # fmt: skip
        self._model: Any = Idefics3ForConditionalGeneration(config).float().eval()
        self._model.save_pretrained(folder)
        self._processor = _processor(tokenizer)
        self._processor.save_pretrained(folder)

    def answer(self, parts: list[str | bytes], tokens: int) -> str:
        """The greedy answer to one message: texts, and images as files."""
        from PIL import Image

        text = "".join(part if isinstance(part, str) else "<image>" for part in parts)
        pictures = [Image.open(io.BytesIO(part)).convert("RGB") for part in parts if isinstance(part, bytes)]
        inputs = self._processor(
            text=f"user: {text} assistant:", images=pictures or None, return_tensors="pt"
        )
        with self._torch.no_grad():
            ids = self._model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0]
        decoded: str = self._processor.tokenizer.decode(
            ids[inputs.input_ids.shape[1] :], skip_special_tokens=True
        )
        return decoded


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=400, special_tokens=list(_SPECIAL), initial_alphabet=alphabet)
    backend.train_from_iterator(["user: what is in the image? assistant: a cat and a dog"] * 10, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def _processor(tokenizer: Any) -> Any:
    from transformers import Idefics3ImageProcessorPil, Idefics3Processor

    images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    return Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=_TEMPLATE
    )
