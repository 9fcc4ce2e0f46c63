"""Tree of thought: use each number once to make 24.  The model proposes moves, a regex leaves it only legal ones, and
every level of the tree runs as one batch whose branches share the path above them."""

import re
from itertools import permutations

import forktree as ft

WIDTH = 3  # thoughts per state
EXAMPLES = """Use the numbers to make 24.

Numbers: 4 6 1
Move: 4 * 6 = 24
Numbers: 1 24
Move: 24 * 1 = 24

Numbers: 2 10 12
Move: 12 * 2 = 24
Numbers: 10 24
"""


def moves(numbers):
    """Every legal move, as the model would write it -> the numbers it leaves."""
    found = {}
    for i, j in permutations(range(len(numbers)), 2):
        a, b, rest = numbers[i], numbers[j], [n for k, n in enumerate(numbers) if k not in (i, j)]
        if a >= b:
            for sign, result in (("+", a + b), ("-", a - b), ("*", a * b)):
                found[f"{a} {sign} {b} = {result}"] = sorted([*rest, result])
    return found


@ft.function
def make_24(s, numbers):
    s += EXAMPLES
    frontier, solutions = [(s, sorted(numbers), ())], []
    while frontier:
        thoughts = [(branch, *rest) for state, *rest in frontier for branch in state.fork(WIDTH)]
        for seed, (branch, left, _) in enumerate(thoughts):
            branch += f"\nNumbers: {' '.join(map(str, left))}\nMove: "
            branch += ft.gen("move", regex="|".join(map(re.escape, moves(left))), temperature=1.5, seed=seed)
        steps = [(branch, moves(left)[branch["move"]], (*path, branch["move"])) for branch, left, path in thoughts]
        reached = {path: (branch, left, path) for branch, left, path in steps}  # the same thought twice is one thought
        solutions += [path for _, left, path in reached.values() if left == [24]]
        frontier = [step for step in reached.values() if len(step[1]) > 1]
    s["solutions"] = solutions


def main():
    with ft.Runtime() as runtime:
        for numbers in ([2, 3, 4], [2, 2, 6]):
            found = make_24.run(numbers, backend=runtime)["solutions"]
            print(numbers, "->", " or ".join("; ".join(path) for path in found) or "not found")


if __name__ == "__main__":
    main()
