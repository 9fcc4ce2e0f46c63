"""Retrieval over this repository's own documents: sqlite's full-text index finds passages, a branch per passage reads it."""

import re
import sqlite3
from pathlib import Path

import forktree as ft

ROOT = Path(__file__).resolve().parents[1]


def index():
    """An FTS5 table of every paragraph of README.md and docs/."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE passages USING fts5(source, text, tokenize = 'porter')")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]:
        paragraphs = [part for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if 80 < len(part) < 900]
        rows = [(str(path.relative_to(ROOT)), " ".join(part.split())) for part in paragraphs]
        database.executemany("INSERT INTO passages VALUES (?, ?)", rows)
    return database


def search(database, question, limit=3):
    words = " OR ".join(word for word in re.findall(r"\w{3,}", question) if word.lower() not in {"who", "what", "the"})
    return database.execute(
        "SELECT source, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?", (words, limit)
    )


@ft.function
def answer(s, question, passages):
    s += ft.system("Answer the question from the passage, in one sentence.")
    branches = s.fork(len(passages))
    for branch, (_, text) in zip(branches, passages):
        branch += ft.user(f"Passage: {text}\n\nQuestion: {question}")
        branch += ft.assistant(ft.gen("answer", max_tokens=40, stop="\n", return_logprob=True))
    branches.join()


def main():
    question = "Who can own a page of the cache?"
    passages = search(index(), question).fetchall()
    with ft.Runtime() as runtime:
        state = answer.run(question, passages, temperature=0, backend=runtime)
        print(question)
        for (source, _), text in zip(passages, state["answer"]):
            print(f"- {source}: {text.strip()}")


if __name__ == "__main__":
    main()
