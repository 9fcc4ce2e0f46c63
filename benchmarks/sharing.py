"""What does sharing a prefix save: 32 questions over one few-shot prefix of 1,000 tokens, with the cache on and off.
And what does running together save: 8 streams beside one.

    python -m benchmarks.sharing [--model DIRECTORY]

Both engines are the same but for `prefix_cache`; each has run a few tokens of its own before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.report import print_json_line, print_table
from forktree.runtime import Engine

NUM_QUESTIONS = 32
PREFIX_TOKENS = 1000
NUM_STREAMS = 8
STREAM_TOKENS = 96
GREEDY = {"temperature": 0.0, "ignore_eos": True}


@dataclass(frozen=True)
class Sharing:
    """One pass over the questions."""

    seconds: float
    submitted: int  # prompt tokens
    computed: int  # prompt tokens that were not found in the cache
    answers: list[str]


def reviews(seed: int) -> Iterator[str]:
    """Endless made-up reviews, each ending where its label belongs."""
    draw = random.Random(seed)
    while True:
        thing = draw.choice(["film", "kettle", "hotel", "novel", "bicycle", "restaurant", "jacket", "phone"])
        word = draw.choice(["splendid", "dreadful", "charming", "flimsy", "generous", "dull", "reliable", "noisy"])
        detail = draw.choice(
            ["the price", "the first week", "my sister's advice", "the second look", "all these years"]
        )
        yield f"Review: The {thing} was {word}, and after {detail} I would say so again.\nLabel:"


def few_shot_prefix(engine: Engine, num_tokens: int) -> list[int]:
    """Labelled reviews, exactly `num_tokens` tokens of them."""
    labels = random.Random(7)
    text = ""
    for review in reviews(seed=1):
        text += f"{review} {labels.choice(['good', 'bad'])}\n\n"
        tokens = engine.tokenize(text)
        if len(tokens) >= num_tokens:
            return tokens[:num_tokens]
    raise AssertionError("reviews() is endless")


def ask(engine: Engine) -> Sharing:
    """All questions at once, one output token each."""
    prefix = few_shot_prefix(engine, PREFIX_TOKENS)
    questions = reviews(seed=2)
    prompts = [[*prefix, *engine.tokenize("\n\n" + next(questions))] for _ in range(NUM_QUESTIONS)]
    before = engine.stats()
    start = time.perf_counter()
    completions = engine.generate(prompts, {**GREEDY, "max_new_tokens": 1})
    seconds = time.perf_counter() - start
    submitted = sum(completion.usage.prompt_tokens for completion in completions)
    reused = sum(completion.usage.cached_tokens for completion in completions)
    computed = engine.stats().computed_prompt_tokens - before.computed_prompt_tokens
    assert submitted - reused == computed, f"{submitted} submitted - {reused} reused is not {computed} computed"
    return Sharing(seconds, submitted, computed, [completion.text for completion in completions])


def decode_rate(engine: Engine, num_streams: int) -> float:
    """Tokens per second of all streams together, from the first token of the last stream to start until the end."""
    return asyncio.run(_decode_rate(engine, num_streams))


async def _decode_rate(engine: Engine, num_streams: int) -> float:
    arrivals: list[list[float]] = [[] for _ in range(num_streams)]

    async def follow(index: int) -> None:
        params = {**GREEDY, "max_new_tokens": STREAM_TOKENS}
        async for delta in engine.astream(f"Story number {index + 1}: once upon a time", params):
            arrivals[index] += [time.perf_counter()] * len(delta.token_ids)

    await asyncio.gather(*(follow(index) for index in range(num_streams)))
    start = max(times[0] for times in arrivals)
    counted = [moment for times in arrivals for moment in times if moment > start]
    return len(counted) / (max(counted) - start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharing", description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", help="a Hugging Face directory or a GGUF file; the default model if not given")
    model = parser.parse_args().model

    with Engine(model, prefix_cache=True) as engine:
        name = engine.info.name
        _warm_up(engine)
        shared = ask(engine)
        rates = {count: max(decode_rate(engine, count) for _ in range(2)) for count in (1, NUM_STREAMS)}
    with Engine(model, prefix_cache=False) as engine:
        _warm_up(engine)
        alone = ask(engine)
    assert shared.answers == alone.answers, "the cache changed an answer"

    workload = f"{NUM_QUESTIONS} questions over one prefix of {PREFIX_TOKENS} tokens, 1 output token each"
    rows = [
        [label, f"{run.submitted:,}", f"{run.computed:,}", f"{run.computed / run.submitted:.1%}", f"{run.seconds:.2f}"]
        for label, run in (("on", shared), ("off", alone))
    ]
    print_table(workload, ["prefix cache", "prompt tokens", "computed", "share", "seconds"], rows)
    print_table(
        f"decode, {STREAM_TOKENS} tokens a stream",
        ["streams", "tokens/s", "beside one"],
        [[str(count), f"{rate:.1f}", f"{rate / rates[1]:.2f} x"] for count, rate in rates.items()],
    )
    figures = {
        "prompt_tokens": shared.submitted,
        "computed_tokens": shared.computed,
        "computed_share": round(shared.computed / shared.submitted, 4),
        "seconds_on": round(shared.seconds, 3),
        "seconds_off": round(alone.seconds, 3),
        "wall_ratio": round(shared.seconds / alone.seconds, 4),
        "decode_tokens_per_s": {str(count): round(rate, 1) for count, rate in rates.items()},
        "decode_ratio": round(rates[NUM_STREAMS] / rates[1], 2),
    }
    print_json_line("sharing", name, workload, figures)


def _warm_up(engine: Engine) -> None:
    """Kernels are compiled and memory is touched before anything is timed; the questions share no token with it."""
    engine.generate(["~ " * 300, *("warm up" for _ in range(NUM_STREAMS))], {**GREEDY, "max_new_tokens": 8})


if __name__ == "__main__":
    main()
