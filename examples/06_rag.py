"""Retrieval over this repository's own documents: sqlite's full-text index finds passages, the model selects the
sentence that the question makes likelier than it is by itself.  Such an answer is always found in the documents."""

import re
import sqlite3
from pathlib import Path

import forktree as ft

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = [
    "Who can be the owner of a page?",
    "What goes first when pages are short?",
    "How is a GGUF file converted?",
]


def index():
    """An FTS5 table of every paragraph and list item of README.md and docs/; tables and code are left out."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE passages USING fts5(source, text, tokenize = 'porter')")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]:
        text = re.sub(r"```.*?```| \([^)]*`[^)]*\)|\*\*.*?\*\*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        passages = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?:- |\d+\. )", text)]
        rows = [(path.name, part) for part in passages if len(part) > 80 and "|" not in part]
        database.executemany("INSERT INTO passages VALUES (?, ?)", rows)
    return database


def search(database, question, limit=3):
    """The best passages as {sentence: source}."""
    words = " OR ".join(re.findall(r"\w{3,}", question))
    best = "SELECT source, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"
    found = database.execute(best, (words, limit)).fetchall()
    return {f" {each}": source for source, text in found for each in re.split(r"(?<=[.;])\s+", text) if len(each) > 20}


@ft.function
def answer(s, question, sentences):
    s += f"Question: {question}\nAnswer:"
    s += ft.select("answer", sentences, choices_method=ft.unconditional_likelihood_normalized)


def main():
    database = index()
    found = [search(database, question) for question in QUESTIONS]
    with ft.Runtime() as runtime:
        states = answer.run_batch(list(zip(QUESTIONS, map(list, found))), backend=runtime)
        for question, sentences, state in zip(QUESTIONS, found, states):
            print(f"{question}\n  {state['answer'].strip()}  ({sentences[state['answer']]})")


if __name__ == "__main__":
    main()
