"""Text in, typed objects out: the schema comes from a pydantic model, so what the model writes always loads into it."""

from pydantic import BaseModel, Field

import forktree as ft


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=130)
    job: str = Field(max_length=20)
    city: str = Field(max_length=20)


EXAMPLE = """Text: Maria Silva, 34, is a nurse in Lisbon.
JSON: {"name": "Maria Silva", "age": 34, "job": "nurse", "city": "Lisbon"}
"""
TEXTS = [
    "John Carter is a 52 year old baker who lives in Dublin.",
    "Aiko (29) builds bridges in Osaka as an engineer.",
    "In Cairo I met Omar, a painter of 61.",
]


@ft.function
def extract(s, text):
    s += f"{EXAMPLE}\nText: {text}\nJSON: "
    s += ft.gen("person", json_schema=Person)


def main():
    with ft.Runtime() as runtime:
        for state in extract.run_batch([{"text": text} for text in TEXTS], temperature=0, backend=runtime):
            print(repr(Person.model_validate_json(state["person"])))


if __name__ == "__main__":
    main()
