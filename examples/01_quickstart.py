"""A chat, a choice and a JSON object in one program; every turn goes on from what the cache holds of the last one."""

import json
import time

import forktree as ft

CARD = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "country": {"type": "string", "maxLength": 20},
        "continent": {"enum": ["Africa", "America", "Asia", "Europe", "Oceania"]},
    },
    "required": ["city", "country", "continent"],
    "additionalProperties": False,
}


@ft.function
def quickstart(s, country):
    s += ft.user(f"What is the capital of {country}?")
    s += ft.assistant(ft.gen("answer", max_tokens=32))
    s += ft.user("Which continent is it on?")
    s += ft.assistant("It is in" + ft.select("continent", [" Africa", " America", " Asia", " Europe", " Oceania"]))
    s += ft.user("Give me that as a JSON object with the keys city, country and continent.")
    s += ft.assistant(ft.gen("card", json_schema=CARD))


def main():
    with ft.Runtime() as runtime:
        start = time.perf_counter()
        state = quickstart.run(country="Egypt", temperature=0, backend=runtime)
        seconds = time.perf_counter() - start
        print("answer:   ", state["answer"])
        print("continent:", state["continent"].strip())
        print("card:     ", json.loads(state["card"]))
        stats = runtime.get_server_info()
        print(
            f"{stats['prompt_tokens']} prompt tokens, {stats['computed_prompt_tokens']} computed, "
            f"{stats['cached_tokens']} reused, {stats['generated_tokens'] / seconds:.0f} tok/s"
        )


if __name__ == "__main__":
    main()
