"""Texts that tokenizers disagree on."""

# ruff: noqa: RUF001 - the ambiguous characters are the point

from __future__ import annotations

CORPUS = (
    "Hello world",
    " Hello  world ",
    "The quick brown fox jumps over the lazy dog. It's 3.14159, isn't it? I'LL say SO!",
    "x=1234567890;y = 0x1F + 1e-9;z=12,345,678.90",
    "def f(n: int) -> int:\n    return n if n < 2 else f(n - 1) + f(n - 2)\n\n\n# done\n",
    "\t\tif (a && b) {\r\n\t\t\treturn `${c}`;\r\n\t\t}\r\n",
    "SELECT * FROM t WHERE a <> 'b' -- comment\n;",
    '<div class="a">&nbsp;<br/></div>\n\n\n\n<p>x</p>',
    "https://example.com/a?b=c&d=%20e#f user@example.com C:\\Windows\\System32",
    "\n\n\n   \n \t \n",
    "   ",
    "a" * 200,
    "!" * 50 + "?" * 3 + "..." + "-" * 80,
    "Größe, Übergänge, naïve façade, Zażółć gęślą jaźń, İstanbul ıişğ, Điện Biên Phủ",
    "e\u0301 A\u030a \ufb01 \u2126 \u212b",  # decomposed letters, a ligature, compatibility signs
    "Привет, мир! Съешь ещё этих мягких французских булок.",
    "Γειά σου Κόσμε· ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "שלום עולם — مرحبا بالعالم، كيف الحال؟",
    "नमस्ते दुनिया ก็ไม่รู้เหมือนกัน สวัสดีชาวโลก বাংলা ភាសាខ្មែរ",
    "你好，世界！我在北京的大学学习人工智能。「日本語」のテキスト、カタカナとひらがな。안녕하세요 세계",
    "🦙🚀 👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️‍🔥 ☺️ 😶‍🌫️",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ₌₀ⁿ i² ≈ n³⁄₃ ± ½",
    "zero\u200bwidth\u00a0nbsp\u3000wide\u2028line\ufeffbom \ufffd \x00\x01\x7f",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<s>[INST] <<SYS>>\nx\n<</SYS>>\n\ny [/INST] z </s> <unk> <|eot_id|> <0x0A> \u2581",
    "'s 'S 't 'RE 've 'M 'll 'D can't CAN'T y'all 'tis",
    "MixedCaseWords andSome_snake_case AND-KEBAB XMLHttpRequest iPhone15ProMax",
)
