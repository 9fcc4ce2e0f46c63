"""A ReAct-style agent with a real tool: it thinks, queries an sqlite database, reads what came back, and answers."""

import sqlite3

import forktree as ft

EXAMPLES = """Question: What is the job of the person who lives in Lisbon?
Thought: I need to know who lives in Lisbon.
Action: SELECT name FROM people WHERE city = 'Lisbon'
Observation: Maria
Thought: I need the job of Maria.
Action: SELECT job FROM people WHERE name = 'Maria'
Observation: nurse
Thought: I know the answer.
Answer: Maria is a nurse.

Question: How old is the person who lives in Rome?
Thought: I need to know who lives in Rome.
Action: SELECT name FROM people WHERE city = 'Rome'
Observation: Luca
Thought: I need the age of Luca.
Action: SELECT age FROM people WHERE name = 'Luca'
Observation: 18
Thought: I know the answer.
Answer: Luca is 18 years old.
"""
QUERY = r" SELECT (name|job|age|city) FROM people WHERE (name|job|city) = '[A-Za-z]{1,12}'"  # it can write nothing else


@ft.function
def agent(s, question, database, most_steps=4):
    s += f"{EXAMPLES}\nQuestion: {question}\n"
    for _ in range(most_steps):
        s += "Thought:" + ft.gen("thought", max_tokens=24, stop="\n") + "\n"
        s += ft.select("act", ["Action:", "Answer:"])
        if s["act"] == "Answer:":
            break
        s += ft.gen("query", regex=QUERY)
        rows = database.execute(s["query"]).fetchall()
        s += f"\nObservation: {', '.join(str(row[0]) for row in rows) or 'nothing'}\n"
    s += ft.gen("answer", max_tokens=24, stop="\n")


def main():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE people (name, job, age, city)")
    people = [("Anna", "baker", 41, "Oslo"), ("John", "teacher", 52, "Dublin"), ("Chen", "painter", 33, "Paris")]
    database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", people)
    with ft.Runtime() as runtime:
        state = agent.run("How old is the person who lives in Dublin?", database, temperature=0, backend=runtime)
        print(state.text().removeprefix(EXAMPLES).strip())


if __name__ == "__main__":
    main()
