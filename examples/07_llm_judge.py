"""A judge by branch, solve and merge: a branch per criterion, in it a branch per reply, and the grades of all leaves
merged into one ranking.  The grade of a leaf is how likely the judge finds "yes"."""

import forktree as ft

REPLIES = [
    "Thank you for your question! Hold the power button for ten seconds and the router will restart.",
    "You broke it yourself, you fool.",
    "Some routers break, some do not.",
]
CRITERIA = {
    "Polite": [
        ("Thank you for writing, we are happy to help.", "yes"),
        ("Go away and read the manual.", "no"),
        ("Good morning, I hope this solves it.", "yes"),
        ("What a stupid question.", "no"),
    ],
    "Concrete": [
        ("Press the red button for ten seconds.", "yes"),
        ("Try some things.", "no"),
        ("Open the settings and choose a new password.", "yes"),
        ("It depends.", "no"),
    ],
}


@ft.function
def judge(s, replies):
    s += "A judge reads what a help desk replied.\n\n"
    leaves = {}
    for branch, (criterion, examples) in zip(s.fork(len(CRITERIA)), CRITERIA.items()):
        branch += "".join(f"Reply: {reply}\n{criterion}: {grade}\n\n" for reply, grade in examples)
        for leaf, reply in zip(branch.fork(len(replies)), replies):
            leaf += f"Reply: {reply}\n{criterion}:" + ft.select("grade", [" yes", " no"])
            leaves[criterion, reply] = leaf
    s["grades"] = {key: leaf.get_meta_info("grade")["distribution"][0] for key, leaf in leaves.items()}


def main():
    with ft.Runtime() as runtime:
        grades = judge.run(REPLIES, backend=runtime)["grades"]
    totals = {reply: sum(grades[criterion, reply] for criterion in CRITERIA) for reply in REPLIES}
    for reply in sorted(totals, key=totals.get, reverse=True):
        shown = ", ".join(f"{criterion.lower()} {grades[criterion, reply]:.2f}" for criterion in CRITERIA)
        print(f"{totals[reply]:.2f}  ({shown})  {reply}")


if __name__ == "__main__":
    main()
