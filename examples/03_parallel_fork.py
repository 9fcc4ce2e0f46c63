"""Tip suggestion: the branches of a fork are written at the same time, and share everything before the fork."""

import forktree as ft

TIPS = ["A balanced diet", "Regular exercise", "Good sleep"]


@ft.function
def tip_suggestion(s):
    s += "Here are three tips for staying healthy: 1. Balanced Diet. 2. Regular Exercise. 3. Good Sleep.\n\n"
    branches = s.fork(len(TIPS))
    for number, (branch, tip) in enumerate(zip(branches, TIPS), 1):
        branch += f"Now, expand tip {number} into a paragraph. {tip}"
        branch += ft.gen("paragraph", max_tokens=40, stop=".")
    branches.join()  # s["paragraph"] is now the list of what the branches wrote
    for tip, paragraph in zip(TIPS, s["paragraph"]):
        s += f"{tip}{paragraph}.\n"
    s += "\nIn summary," + ft.gen("summary", max_tokens=40, stop=".")


def main():
    with ft.Runtime() as runtime:
        state = tip_suggestion.run(temperature=0, backend=runtime)
        for tip, paragraph in zip(TIPS, state["paragraph"]):
            print(f"- {tip}{paragraph}.")
        print(f"In summary,{state['summary']}.")


if __name__ == "__main__":
    main()
