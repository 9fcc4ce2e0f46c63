"""Programs as they are written for SGLang's frontend, with nothing but the import changed, on the real default model.

What is asserted holds whatever the model says: choices are of the set, regexes match, streams spell the text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

import forktree as sgl

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def default_backend(engine: sgl.Engine) -> Iterator[None]:
    sgl.set_default_backend(engine)
    yield
    sgl.set_default_backend(None)


@sgl.function
def few_shot_qa(s, question):  # type: ignore[no-untyped-def]
    s += "The following are questions with answers.\n\n"
    s += "Q: What is the capital of France?\nA: Paris\n"
    s += "Q: What is the capital of Germany?\nA: Berlin\n"
    s += "Q: " + question + "\n"
    s += "A:" + sgl.gen("answer", stop="\n", max_tokens=12)


@sgl.function
def answer_mt_bench(s, question_1, question_2):  # type: ignore[no-untyped-def]
    s += sgl.system("You are a helpful assistant.")
    s += sgl.user(question_1)
    s += sgl.assistant(sgl.gen("answer_1", max_tokens=12))
    with s.user():
        s += question_2
    with s.assistant():
        s += sgl.gen("answer_2", max_tokens=12)


@sgl.function
def true_or_false(s, statement):  # type: ignore[no-untyped-def]
    s += "Determine whether the statement below is True, False, or Unknown.\n"
    s += "Statement: The capital of France is Paris.\nAnswer: True\n"
    s += "Statement: " + statement + "\n"
    s += "Answer:" + sgl.select("answer", ["True", "False", "Unknown"])


@sgl.function
def expert_answer(s, question):  # type: ignore[no-untyped-def]
    s += "Question: " + question + "\n"
    s += "A good person to answer this question is" + sgl.gen("expert", stop=[".", "\n"], max_tokens=10) + ".\n"
    expert = s["expert"]
    s += "For example," + expert + " would answer that" + sgl.gen("answer", stop=".", max_tokens=16) + "."


@sgl.function
def parallel_decoding(s, topic):  # type: ignore[no-untyped-def]
    s += "Act as a helpful assistant.\nUSER: Give some tips for " + topic + ".\n"
    s += "ASSISTANT: Okay. Here are two concise tips, each under 8 words:\n"
    for i in range(1, 3):
        s += f"{i}." + sgl.gen(max_tokens=10, stop=[".", "\n"]) + ".\n"
    forks = s.fork(2)
    for i in range(2):
        forks[i] += f"Now, expand tip {i + 1} into a paragraph:\n"
        forks[i] += sgl.gen("detailed_tip", max_tokens=12, stop=["\n\n"])
    s += "Here are these tips with detailed explanation:\n"
    for i in range(2):
        s += f"[{i + 1}]" + forks[i]["detailed_tip"] + "\n"


@sgl.function
def tool_use(s, lhs, rhs):  # type: ignore[no-untyped-def]
    s += "Please perform computations using a calculator.\n3 + 5 = <tool>calculator(3 + 5)=8\n"
    s += f"{lhs} * {rhs} = <tool>" + sgl.gen("tool", choices=["calculator", "search engine"])
    if s["tool"] == "calculator":
        s += "(" + sgl.gen("expression", regex=r"[0-9]{1,3} [*+] [0-9]{1,3}") + ")"
        left, sign, right = s["expression"].split()
        with s.var_scope("result"):
            s += f"={int(left) * int(right) if sign == '*' else int(left) + int(right)}"


@sgl.function
def react(s, question):  # type: ignore[no-untyped-def]
    s += "Question: " + question + "\n"
    for i in range(1, 3):
        s += f"Thought {i}:" + sgl.gen("thought", max_tokens=10, stop=["\n", "Observation"]) + "\n"
        s += f"Action {i}:" + sgl.select(f"action_{i}", [" Search", " Finish"]) + "\n"
        if s[f"action_{i}"] == " Finish":
            break
        s += f"Observation {i}: nothing was found.\n"


@sgl.function
def typed(s):  # type: ignore[no-untyped-def]
    s += "The answer to everything, as a number: " + sgl.gen_int("number", max_tokens=4) + "\n"
    s += "A mail address: " + sgl.gen("mail", regex=r"[a-z]{3,8}@[a-z]{3,8}\.com") + "\n"
    s += "A name, in quotes: " + sgl.gen_string("name", max_tokens=24, stop="\n")
    s += "\nIs water wet? " + sgl.gen("wet", dtype=bool)


@sgl.function
def tree_search(s, question, num_branches):  # type: ignore[no-untyped-def]
    s += "Question: " + question + "\n"
    forks = propose(s, num_branches)
    for fork in forks:
        evaluate(fork)
    s["scores"] = [fork["score"] for fork in forks]
    best = max(range(num_branches), key=lambda i: int(s["scores"][i]))
    s += forks[best]["plan"] + "\nFinal answer:" + sgl.gen("final", max_tokens=8, stop="\n")


def propose(s, num_branches):  # type: ignore[no-untyped-def]
    forks = s.fork(num_branches)
    forks += "A plan:" + sgl.gen("plan", max_tokens=12, temperature=0.3, stop="\n")
    return forks


def evaluate(s):  # type: ignore[no-untyped-def]
    s += "\nFrom 1 to 3, how good is it? " + sgl.select("score", ["1", "2", "3"])


@sgl.function
def hellaswag(s, context, endings):  # type: ignore[no-untyped-def]
    s += "A cat sits on a mat. It purrs.\n\n" + context
    s += sgl.select("ending", choices=endings)


def test_few_shot_question_answering_alone_and_in_a_batch() -> None:
    state = few_shot_qa.run(question="What is the capital of Italy?", temperature=0)
    assert "Rome" in state["answer"]
    assert "\n" not in state["answer"]
    states = few_shot_qa.run_batch([{"question": "Who wrote Hamlet?"}, {"question": "What is 1+1?"}], num_threads=4)
    assert all(state.text().endswith("A:" + state["answer"]) for state in states)


def test_two_turns_of_a_chat() -> None:
    state = answer_mt_bench.run("Name a colour.", "Another one.", temperature=0)
    assert [message["role"] for message in state.messages()] == ["system", "user", "assistant", "user", "assistant"]
    assert state.messages()[-1]["content"] == state["answer_2"]


@pytest.mark.parametrize(
    "method",
    [sgl.token_length_normalized, sgl.greedy_token_selection, sgl.unconditional_likelihood_normalized],
    ids=repr,
)
def test_select_with_every_choices_method(method: sgl.ChoicesMethod) -> None:
    state = true_or_false.run(statement="The capital of Germany is Berlin.")
    assert state["answer"] in ("True", "False", "Unknown")

    @sgl.function
    def again(s):  # type: ignore[no-untyped-def]
        s += "2 + 2 = " + sgl.select("sum", ["4", "5", "4.5"], choices_method=method)

    state = again.run()
    assert state["sum"] in ("4", "5", "4.5")
    meta = state.get_meta_info("sum")
    assert meta is not None
    assert sum(meta["probabilities"]) == pytest.approx(1)


def test_experts_and_parallel_decoding() -> None:
    state = expert_answer.run("How do planes fly?", temperature=0)
    assert state["expert"] in state.text()
    assert state["answer"] in state.text()
    state = parallel_decoding.run("staying healthy", temperature=0)
    assert "\n2." in state.text()
    assert re.search(r"\[1\].*\[2\]", state.text(), re.DOTALL)


def test_tool_use_and_react() -> None:
    state = tool_use.run("15", "3", temperature=0)
    assert state["tool"] in ("calculator", "search engine")
    assert "result" not in state or re.fullmatch(r"=\d+", state["result"])
    state = react.run("Where is the Louvre?", temperature=0)
    assert state["action_1"] in (" Search", " Finish")


def test_regex_and_dtype() -> None:
    state = typed.run(temperature=0)
    assert int(state["number"]) is not None
    assert re.fullmatch(r"[a-z]{3,8}@[a-z]{3,8}\.com", state["mail"])
    assert state["name"].startswith('"')
    assert state["wet"] in ("True", "False")


def test_a_tree_of_thought() -> None:
    state = tree_search.run("How does one boil an egg?", 3, seed=4)
    assert len(state["scores"]) == 3
    assert state["final"] in state.text()


def test_multiple_choice_by_likelihood() -> None:
    items = [{"context": "The sun", "endings": [" is hot.", " is a kind of cheese."]}] * 3
    states = hellaswag.run_batch(items, temperature=0, num_threads=3)
    assert {state["ending"] for state in states} == {" is hot."}


def test_a_stream_read_sync_and_async() -> None:
    state = few_shot_qa.run(question="What is the capital of Spain?", temperature=0, stream=True)
    assert "".join(state.text_iter(var_name="answer")) == state["answer"]

    async def read() -> tuple[str, str]:
        state = few_shot_qa.run(question="What is the capital of Spain?", temperature=0, stream=True)
        pieces = [piece async for piece in state.text_async_iter(var_name="answer")]
        return "".join(pieces), state["answer"]

    pieces, answer = asyncio.run(read())
    assert pieces == answer
