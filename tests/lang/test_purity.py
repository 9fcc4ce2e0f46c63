"""Which programs may be foreseen: those whose code visibly does nothing but write to its state."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import enum
import functools
import itertools
import json
import math
import operator
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from subprocess import Popen
from typing import Any

import pytest

import forktree as ft
from forktree import gen
from forktree.lang.purity import is_plain_data, why_not_foreseeable
from tests.support.program_backend import ProgramsBackend

S = ft.ProgramState

EXAMPLES = ["a", "b"]
SETTINGS = {"style": "plain", "list": [1]}
NUMBER = 3
PATTERN = re.compile("a+")


class Colour(enum.Enum):
    RED = "red"


class Loud(enum.Enum):
    """It looks like a name for a text."""

    RED = "red"

    def __format__(self, spec: str) -> str:
        seen.append("red")
        return "red"


class Counting(str, enum.Enum):
    RED = "red"

    @property
    def label(self) -> str:
        seen.append("red")
        return "red"


class Answer:
    """A type for gen, a class like any other elsewhere."""


class QuietError(Exception):
    pass


class LoudError(Exception):
    def __init__(self) -> None:
        seen.append("loud")


class Database:
    def get(self, key: str) -> str:
        seen.append(key)
        return key

    def execute(self, query: str) -> str:
        return self.get(query)

    def __str__(self) -> str:
        return self.get("str")


class Sly(str):
    def __format__(self, spec: str) -> str:
        seen.append("formatted")
        return str(self)


class Proxy:
    """As of a web framework: asking it anything outside of a request is an error."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a request")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of a request")


seen: list[str] = []
database = Database()
sly = Sly("x")
handlers = {"print": print}
joined = ", ".join
counter = itertools.count()


def shout(text: str) -> str:
    words = text.split()
    words.append("!")
    return " ".join(word.upper() for word in words)


def write_to(s: S, text: str) -> None:
    s += text + gen("x")


def remember(known: list[str], text: str) -> None:
    known += [text]


def put(known: dict[str, str], text: str) -> None:
    known["x"] = text


def notes(text: str) -> str:
    seen.append(text)
    return text


def countdown(n: int) -> int:
    return countdown(n - 1) if n else 0


def even(n: int) -> bool:
    return odd(n - 1) if n else print("even") is None


def odd(n: int) -> bool:
    return even(n - 1) if n else False


def logged(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        seen.append(func.__name__)
        return func(*args)

    return wrapper


@logged
def wrapped(text: str) -> str:
    return text


@functools.lru_cache
def cached(text: str) -> str:
    return text


def yields(text: str) -> Iterator[str]:
    yield text


def with_a_database(text: str, db: Any = database) -> str:
    return str(db.get(text))


@ft.function
def pure_program(s: S, q: str) -> None:
    s += q + gen("x")


@ft.function
def impure_program(s: S, q: str) -> None:
    print(q)


@ft.function(trace=False)
def unwilling_program(s: S, q: str) -> None:
    s += q


@ft.function(trace=True)
def willing_program(s: S, q: str) -> None:
    print(q)


@ft.function
def gets(s: S, db: Any) -> None:
    s += db.get("x")


bound_program = gets.bind(db=database)

# ---- may be foreseen


def writes(s: S, q: str) -> str:
    s += f"{q}: {EXAMPLES[0]} {SETTINGS['style']} {NUMBER}\n" + gen("a", stop="\n")
    s += ft.select("b", ["x", "y"], choices_method=ft.greedy_token_selection)
    return s["a"].strip()


def uses_roles(s: S, q: str) -> None:
    s += ft.system("x")
    with s.user():
        s += q
    s += ft.assistant(ft.gen("a") + ft.gen_int("n"))


def forks(s: S, tips: list[str]) -> None:
    branches = s.fork(len(tips))
    for i, (branch, tip) in enumerate(zip(branches, tips)):  # noqa: B905
        branch += f"{i} {tip}" + gen("tip")
    branches += gen("more")
    branches[0] += "first"
    first, second = s.fork(2)
    first += second["tip"] if tips else "x"
    for branch in branches:
        inner = branch.fork(2)
        inner += lambda i: str(i) + gen("y")
        inner.join()
    branches.join()
    with s.copy() as draft:
        draft += gen("z")
    with s.var_scope("all"):
        s += "".join(s["tip"])
    s["count"] = len(tips)


def means_two_things(s: S, q: str) -> None:
    leaves = {}
    for branch, word in zip(s.fork(2), ("a", "b")):  # noqa: B905
        for leaf in branch.fork(2):
            leaf += word + gen("x")
            leaves[word] = leaf
    s["all"] = {key: leaf["x"] for key, leaf in leaves.items()}


def builds(s: S, rows: list[list[str]]) -> None:
    lines, counts, text, n = [], {}, "", 0
    for row in rows:
        line = ", ".join(cell.strip() for cell in row if cell)
        lines.append(line)
        counts[line] = counts.get(line, 0) + 1
        counts[line] += 1
        text += line + "\n"
        n += len(row)
    tally = collections.Counter(text)
    tally.update(lines)
    unique = sorted(set(lines), key=lambda each: (len(each), each))
    unique.extend(lines)
    s += text + str(n) + json.dumps(counts) + "".join(unique) + re.sub("a", "b", text) + str(math.sqrt(4))
    s += PATTERN.sub("x", text) + Colour.RED.value


def handles(s: S, q: str) -> None:
    try:
        number = int(q)
    except (ValueError, QuietError, ft.GenerationError) as error:
        number = 0
        s += str(error)
    else:
        if number < 0:
            raise QuietError("negative")
    if not isinstance(number, int):
        raise ValueError("no")
    s += gen("a", json_schema=Answer) + str(number)


def calls_helpers(s: S, q: str) -> None:
    s += shout(q)
    write_to(s, q)
    for branch in s.fork(2):
        write_to(branch, q)
    pure_program(s, q)
    willing_program(s, q)
    known: list[str] = []
    known += ["mine"]
    s += str(countdown(3)) + joined_here([q])


def joined_here(parts: list[str]) -> str:
    return ", ".join(parts)


def waits_while_matching(s: S, q: str) -> None:
    match q:
        case "a":
            s += "x"
        case other:
            s += other
    while len(q) > 3:
        q = q[1:]
    s += q


async def is_async(s: Any, q: str) -> None:
    s += q + gen("a")


FINE: list[Callable[..., Any]] = [
    writes,
    uses_roles,
    forks,
    means_two_things,
    builds,
    handles,
    calls_helpers,
    waits_while_matching,
    is_async,
]


@pytest.mark.parametrize("func", FINE, ids=lambda func: func.__name__)
def test_may_be_foreseen(func: Callable[..., Any]) -> None:
    assert why_not_foreseeable(func) is None
    assert why_not_foreseeable(func) is None  # as remembered


def test_a_function_inside_another_may_be_foreseen_with_what_it_closes_over() -> None:
    style = "plain"

    def program(s: S, q: str) -> None:
        s += f"""{style}
{q}""" + gen("a")

    assert why_not_foreseeable(program) is None


# ---- may not


def prints(s: S, q: str) -> None:
    print(q)


def opens(s: S, q: str) -> None:
    with open(q) as file:
        s += file.read()


def asks(s: S, q: str) -> None:
    s += input()


def executes(s: S, q: str) -> None:
    s += database.execute(q)


def gets_from_a_global(s: S, q: str) -> None:
    s += database.get(q)


def formats_a_global(s: S, q: str) -> None:
    s += f"{database}"


def formats_a_sly_text(s: S, q: str) -> None:
    s += f"{sly}"


def appends_to_an_argument(s: S, q: list[str]) -> None:
    q.append("x")


def appends_to_an_alias(s: S, q: list[str]) -> None:
    mine = q
    mine.append("x")


def adds_to_an_argument(s: S, q: list[str]) -> None:
    q += ["x"]


def adds_to_an_alias(s: S, q: list[str]) -> None:
    mine = q
    mine += ["x"]


def adds_to_one_of_two(s: S, q: list[str]) -> None:
    mine = [] if NUMBER else q
    mine += ["x"]


def adds_to_what_or_gives(s: S, q: list[str]) -> None:
    mine = q or []
    mine += ["x"]


def adds_to_what_a_walrus_binds(s: S, q: list[str]) -> None:
    if mine := q:
        mine += ["x"]


def adds_to_elements(s: S, q: list[list[str]]) -> None:
    for row in q:
        row += ["x"]


def sets_elements_of_elements(s: S, q: list[list[str]]) -> None:
    for _, row in enumerate(q):
        row[0] = "x"


def adds_to_what_zip_gives(s: S, q: list[list[str]]) -> None:
    for branch, row in zip(s.fork(2), q):  # noqa: B905
        branch += "x"
        row += ["x"]


def adds_through_a_list(s: S, q: list[str]) -> None:
    box = [q]
    box[0] += ["x"]


def adds_text_through_a_list(s: S, q: list[str]) -> None:
    box = [q]
    box[0] += "xy"


def adds_through_get(s: S, q: dict[str, list[str]]) -> None:
    mine = q.get("x")
    mine += ["x"]  # type: ignore[operator]


def adds_through_sum(s: S, q: list[str]) -> None:
    mine = sum([], q)
    mine += ["x"]


def adds_through_a_variable(s: S, q: list[str]) -> None:
    s["x"] = q
    s["x"] += ["x"]


def changes_through_a_chain_map(s: S, q: dict[str, str]) -> None:
    mine = collections.ChainMap(q)
    mine["x"] = "y"


def adds_to_a_global_alias(s: S, q: str) -> None:
    mine = EXAMPLES
    mine += [q]


def sets_in_a_global_alias(s: S, q: str) -> None:
    mine = SETTINGS
    mine["style"] = q


def sets_in_a_global(s: S, q: str) -> None:
    SETTINGS["style"] = q


def appends_to_a_part_of_a_global(s: S, q: str) -> None:
    SETTINGS["list"].append(q)  # type: ignore[attr-defined]


def loops_into_a_global(s: S, q: str) -> None:
    for SETTINGS["style"] in q:
        s += "x"


def enters_into_a_global(s: S, q: str) -> None:
    with s.copy() as SETTINGS["style"]:
        s += "x"


def maps_a_change(s: S, q: list[str]) -> None:
    s += str(list(map(EXAMPLES.append, q)))


def maps_an_unbound_change(s: S, q: list[list[str]]) -> None:
    s += str(list(map(list.sort, q)))


def passes_print(s: S, q: list[str]) -> None:
    s += str(max(q, key=print))


def operates(s: S, q: dict[str, str]) -> None:
    operator.setitem(q, "x", "y")


def deletes(s: S, q: list[str]) -> None:
    del q[0]


def sets_an_attribute(s: S, q: Any) -> None:
    q.x = 1


def loops_into_an_attribute(s: S, q: Any) -> None:
    for q.x in "ab":
        s += "x"


def declares_global(s: S, q: str) -> None:
    global NUMBER
    NUMBER = 4


def imports(s: S, q: str) -> None:
    import os

    os.remove(q)


def draws(s: S, q: str) -> None:
    s += str(random.random())


def looks_at_the_clock(s: S, q: str) -> None:
    s += str(time.time())


def starts_a_process(s: S, q: str) -> None:
    subprocess.run(q, check=True)


def makes_a_process(s: S, q: str) -> None:
    Popen(q)


def maps_a_class(s: S, q: list[str]) -> None:
    s += str(list(map(Popen, q)))


def raises_loudly(s: S, q: str) -> None:
    raise LoudError


def calls_an_argument(s: S, q: Callable[[], str]) -> None:
    s += q()


def calls_from_a_table(s: S, q: str) -> None:
    handlers[q](q)


def calls_a_stranger(s: S, q: str) -> None:
    s += joined([q])


def takes_the_next_number(s: S, q: str) -> None:
    s += str(next(counter))


def calls_an_impure_helper(s: S, q: str) -> None:
    s += notes(q)


def calls_a_wrapped_helper(s: S, q: str) -> None:
    s += wrapped(q)


def calls_a_cached_helper(s: S, q: str) -> None:
    s += cached(q)


def calls_a_generator(s: S, q: str) -> None:
    s += "".join(yields(q))


def calls_a_helper_with_a_default(s: S, q: str) -> None:
    s += with_a_database(q)


def has_a_helper_change_a_global(s: S, q: str) -> None:
    remember(EXAMPLES, q)


def has_a_helper_change_an_argument(s: S, q: list[str]) -> None:
    remember(q, "x")


def has_a_helper_put_into_an_argument(s: S, q: dict[str, str]) -> None:
    put(q, "x")


def has_a_helper_change_an_argument_by_name(s: S, q: list[str]) -> None:
    remember(text="x", known=q)


def maps_a_helper_that_changes(s: S, q: list[list[str]]) -> None:
    s += str(list(map(remember, q, "ab")))


def calls_the_even_one(s: S, q: str) -> None:
    s += str(even(4))


def calls_the_odd_one(s: S, q: str) -> None:
    s += str(odd(4))


def runs_an_impure_program(s: S, q: str) -> None:
    impure_program(s, q)


def runs_an_unwilling_program(s: S, q: str) -> None:
    unwilling_program(s, q)


def runs_a_program_with_a_database(s: S, q: str) -> None:
    bound_program(s)


def runs_a_program_by_itself(s: S, q: str) -> None:
    s += pure_program.run(q)["x"]


def catches_all(s: S, q: str) -> None:
    try:
        s += q
    except:  # noqa: E722
        s += "x"


def catches_base(s: S, q: str) -> None:
    with contextlib.suppress(BaseException):
        s += q


def catches_base_by_name(s: S, q: str) -> None:
    try:
        s += q
    except BaseException:
        raise


def has_a_default(s: S, db: Any = database) -> None:
    s += db.get("x")


def has_a_keyword_default(s: S, *, log: Any = print) -> None:
    s += str(log)


def appends_to_what_a_comprehension_means(s: S, q: list[list[str]]) -> None:
    mine: list[str] = []
    s += str([mine.append("x") for mine in q])  # type: ignore[func-returns-value]
    mine.append("y")


def has_a_helper_change_what_a_comprehension_means(s: S, q: list[Any]) -> None:
    for branch in s.fork(2):
        branch += "x"
    s += str([remember(branch, "x") for branch in q])  # type: ignore[func-returns-value]


def hides_a_global_in_a_comprehension(s: S, q: list[str]) -> None:
    s += "".join(database for database in q)
    s += database.get("x")


def hides_a_global_in_a_lambda(s: S, q: list[str]) -> None:
    s += str(sorted(q, key=lambda database: database))
    s += database.get("x")


def defines_inside(s: S, q: str) -> None:
    def inner() -> str:
        return notes(q)

    s += inner()


def awaits_inside(s: S, q: str) -> None:
    async def inner() -> None:
        notes(q)

    asyncio.run(inner())


def uses_what_is_not_there(s: S, q: str) -> None:
    s += nothing_of_this_name  # type: ignore[name-defined] # noqa: F821


def rebinds_its_state(s: S, q: list[str]) -> None:
    s = q  # type: ignore[assignment]
    s += ["x"]  # type: ignore[arg-type]


def uses_a_part_of_a_function(s: S, q: str) -> None:
    shout.known.get(q)  # type: ignore[attr-defined]


def looks_inside(s: S, q: str) -> None:
    s.__dict__.clear()


def cancels_itself(s: S, q: str) -> None:
    s.cancel()


def counts_in_a_module(s: S, q: str) -> None:
    math.counter = 1  # type: ignore[attr-defined]


def counts_on_in_a_module(s: S, q: str) -> None:
    math.counter += 1  # type: ignore[attr-defined]


def shows_a_loud_member(s: S, q: str) -> None:
    s += f"{Loud.RED}"


def reads_a_counting_member(s: S, q: str) -> None:
    s += Counting.RED.label


REFUSED = [
    each
    for name, each in list(globals().items())
    if callable(each)
    and getattr(each, "__module__", None) == __name__
    and getattr(each, "__code__", None) is not None
    and each.__code__.co_firstlineno > prints.__code__.co_firstlineno - 1
    and each.__code__.co_varnames[:1] == ("s",)
]


def test_the_table_is_whole() -> None:
    assert len(REFUSED) > 75
    assert prints in REFUSED
    assert cancels_itself in REFUSED


@pytest.mark.parametrize("func", REFUSED, ids=lambda func: func.__name__)
def test_may_not_be_foreseen(func: Callable[..., Any]) -> None:
    reason = why_not_foreseeable(func)
    assert reason is not None
    assert why_not_foreseeable(func) == reason
    assert seen == []  # asking runs nothing


def test_the_reason_names_what_and_where() -> None:
    line = appends_to_an_argument.__code__.co_firstlineno + 1
    assert why_not_foreseeable(appends_to_an_argument) == f"it calls .append() (line {line} of its file)"
    helper = notes.__code__.co_firstlineno + 1
    assert f"it uses notes: it calls .append() (line {helper} of its file)" in str(
        why_not_foreseeable(calls_an_impure_helper)
    )

    def inside(s: S) -> None:
        s += "a"
        print("x")

    assert f"(line {inside.__code__.co_firstlineno + 2} of its file)" in str(why_not_foreseeable(inside))


def test_nonlocal_and_what_a_cell_does_not_hold_yet() -> None:
    count = 0

    def program(s: S) -> None:
        nonlocal count
        count += 1

    def early(s: S) -> None:
        s += late()

    assert "Nonlocal" in str(why_not_foreseeable(program))
    assert "late is not defined" in str(why_not_foreseeable(early))

    def late() -> str:
        return "x"

    assert why_not_foreseeable(early) is None
    assert count == 0


def test_a_value_that_answers_no_questions_is_asked_none() -> None:
    proxy: Any = Proxy()

    def reads(s: S) -> None:
        s += proxy.user

    def calls(s: S) -> None:
        s += proxy("x")

    def passes(s: S) -> None:
        s += str(proxy)

    for program in (reads, calls, passes):
        assert why_not_foreseeable(program) is not None
    assert not is_plain_data([proxy])


def test_source_that_can_not_be_read_is_no() -> None:
    namespace: dict[str, Any] = {}
    exec("def program(s):\n    s += 'x'\n", namespace)
    assert why_not_foreseeable(namespace["program"]) == "its source can't be read"
    assert "no plain function" in str(why_not_foreseeable(print))
    assert why_not_foreseeable(lambda s: s) is not None


def test_a_name_that_comes_to_stand_for_something_else_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(s: S, q: str) -> None:
        s += shout(q) + str(NUMBER)

    assert why_not_foreseeable(program) is None
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "shout", notes)
        assert why_not_foreseeable(program) is not None
    assert why_not_foreseeable(program) is None
    monkeypatch.setitem(globals(), "NUMBER", database)
    assert why_not_foreseeable(program) is not None


def test_a_container_that_comes_to_hold_something_else_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(s: S, q: str) -> None:
        s += SETTINGS["style"].get(q)  # type: ignore[attr-defined]

    assert why_not_foreseeable(program) is None
    monkeypatch.setitem(SETTINGS, "style", database)
    assert why_not_foreseeable(program) is not None


def test_what_is_remembered_does_not_keep_a_program_alive() -> None:
    import gc
    import weakref

    def make() -> Any:
        def program(s: S, n: int) -> None:
            s += "x"
            if n:
                program(s, n - 1)

        why_not_foreseeable(program)
        return weakref.ref(program)

    found = make()
    gc.collect()
    assert found() is None


# ---- plain data


class Text(str):
    pass


@pytest.mark.parametrize(
    "value", ["a", 1, 1.5, True, None, b"a", [1, ("a", {"k": {1}})], range(3), PATTERN, Colour.RED]
)
def test_plain_data(value: object) -> None:
    assert is_plain_data(value)


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        [Text("a")],
        {Text("a"): 1},
        object(),
        print,
        iter("a"),
        database,
        collections.defaultdict(list),
        [[[[[[[[[[[["deep"]]]]]]]]]]]],
        Answer,
    ],
)
def test_not_plain_data(value: object) -> None:
    assert not is_plain_data(value)


def test_a_program_with_an_argument_that_is_no_plain_data_is_not_foreseen() -> None:
    @ft.function
    def program(s: S, db: Any) -> None:
        s += db.get("x") + gen("a") + gen("b")

    backend = ProgramsBackend()
    program.run(database, backend=backend)
    assert seen == ["x"]
    seen.clear()
    assert not backend.calls


def test_an_enum_that_has_code_is_no_plain_data() -> None:
    assert is_plain_data([Colour.RED])
    assert not is_plain_data([Loud.RED])
    assert not is_plain_data({"a": Counting.RED})
