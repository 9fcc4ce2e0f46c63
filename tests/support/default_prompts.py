"""Twenty prompts for the default model: short and long (over 1,000 tokens), plain and chat, code and many scripts."""

from __future__ import annotations

_WORDS = """
    river stone lantern harbour cloud engine orchard silver thunder garden letter window mountain copper candle winter
    market bridge falcon meadow compass island story hammer forest violin desert castle ribbon needle
""".split()  # noqa: SIM905


def _ledger(num_lines: int, start: int) -> str:
    """Lines that never repeat, so that a long prompt is not a trivial one."""
    lines = []
    for i in range(start, start + num_lines):
        a, b, c = (_WORDS[(i * k + k) % len(_WORDS)] for k in (7, 11, 13))
        lines.append(f"{i}. The {a} near the {b} was sold for {i * 37 % 911} coins and a {c}.")
    return "\n".join(lines)


def _chat(user: str) -> str:
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "Q: What is the tallest mountain in the world?\nA:",
    "The three primary colours are",
    _chat("Write a haiku about autumn."),
    _chat("Give me three tips for staying healthy."),
    _chat("Translate to French: good morning, my friend."),
    "Water boils at 100 degrees Celsius because",
    "SELECT name, age FROM users WHERE",
    "日本の首都は",
    "Привет! Меня зовут",
    "¿Cuál es la capital de España? La capital es",
    "Emoji story: 🐶🏠🌧️ means that",
    "Ελλάδα και 数学: naïve café, Straße, ﷺ, 👩‍👩‍👧 -",
    _chat("Continue this ledger.\n" + _ledger(12, 1)),
    _ledger(46, 100) + "\n146. The",
    _ledger(52, 300) + "\n352. The",
    _chat("Which line of this ledger is the best bargain?\n" + _ledger(48, 500)),
    "Ünïcödé ledger — données:\n" + _ledger(45, 700) + "\n🎉 Summary:",
]
