"""A judge by branch, solve, merge: one branch per criterion reads the same essay, then the verdicts meet in one summary."""

import forktree as ft

ESSAY = """Small libraries matter. They lend tools as well as books, they are warm in winter, and nobody has to buy
anything to stay. Last year our branch counted nine thousand visits in a town of six thousand people."""
CRITERIA = ["clarity", "originality", "evidence"]
GRADES = [" poor", " fair", " good", " excellent"]


@ft.function
def judge(s, essay):
    s += ft.system("You are a strict but fair judge of essays.")
    s += ft.user(f"Read this essay.\n\n{essay}")
    s += ft.assistant("I have read it.")
    branches = s.fork(len(CRITERIA))
    for branch, criterion in zip(branches, CRITERIA):
        branch += ft.user(f"Judge the {criterion} of the essay in one sentence.")
        branch += ft.assistant(ft.gen("reason", max_tokens=40, stop="\n"))
        branch += ft.user(f"Grade the {criterion}: poor, fair, good or excellent?")
        branch += ft.assistant(f"The {criterion} is" + ft.select("grade", GRADES))
    branches.join()
    grades = [f"{criterion}:{grade}" for criterion, grade in zip(CRITERIA, s["grade"])]
    s += ft.user(f"Your grades are {', '.join(grades)}. Sum up your judgement in one sentence.")
    s += ft.assistant(ft.gen("verdict", max_tokens=40, stop="\n"))


def main():
    with ft.Runtime() as runtime:
        state = judge.run(ESSAY, temperature=0, backend=runtime)
        for criterion, grade, reason in zip(CRITERIA, state["grade"], state["reason"]):
            print(f"{criterion}:{grade}. {reason}")
        print("verdict:", state["verdict"])


if __name__ == "__main__":
    main()
