"""Programs as they are written for SGLang's frontend, with nothing but the import changed."""

from __future__ import annotations

import asyncio
from typing import Any

import forktree as sgl
from tests.support.scripted_backend import ScriptedBackend


def test_few_shot_question_answering() -> None:
    @sgl.function
    def few_shot_qa(s, question):  # type: ignore[no-untyped-def]
        s += "The following are questions with answers.\n\n"
        s += "Q: What is the capital of France?\nA: Paris\n"
        s += "Q: " + question + "\n"
        s += "A:" + sgl.gen("answer", stop="\n", temperature=0)

    sgl.set_default_backend(ScriptedBackend({"United States?\nA:": " Washington", "China?\nA:": " Beijing"}))
    state = few_shot_qa.run(question="What is the capital of the United States?")
    assert "washington" in state["answer"].strip().lower()
    states = few_shot_qa.run_batch(
        [{"question": "What is the capital of the United States?"}, {"question": "What is the capital of China?"}],
        temperature=0.1,
        num_threads=8,
        progress_bar=False,
    )
    assert [state["answer"] for state in states] == [" Washington", " Beijing"]


def test_two_turns_of_a_chat() -> None:
    @sgl.function
    def answer_mt_bench(s, question_1, question_2):  # type: ignore[no-untyped-def]
        s += sgl.system("You are a helpful assistant.")
        s += sgl.user(question_1)
        s += sgl.assistant(sgl.gen("answer_1"))
        with s.user():
            s += question_2
        with s.assistant():
            s += sgl.gen("answer_2")

    state = answer_mt_bench.run(
        question_1="a", question_2="b", temperature=0.1, max_new_tokens=64, backend=ScriptedBackend(["1", "2"])
    )
    assert [message["role"] for message in state.messages()] == ["system", "user", "assistant", "user", "assistant"]
    assert state.messages()[-1]["content"] == "2"


def test_select_and_tool_use() -> None:
    @sgl.function
    def tool_use(s, lhs, rhs):  # type: ignore[no-untyped-def]
        s += "Please perform computations using a calculator.\n"
        s += f"{lhs} * {rhs} = <tool>"
        s += sgl.gen("tool", choices=["calculator", "search engine"])
        if s["tool"] == "calculator":
            s += "(" + sgl.gen("expression", stop=")")
            with s.var_scope("result"):
                s += f"={eval(s['expression'])}"

    def scores(prompt: str, choice: str) -> list[float]:
        return [-0.1 if choice == "calculator" else -2.0] * len(choice)

    state = tool_use.run(lhs=3, rhs=4, backend=ScriptedBackend("3*4", scores=scores))
    assert state["result"] == "=12"


def test_experts_that_name_each_other() -> None:
    @sgl.function
    def expert_answer(s, question):  # type: ignore[no-untyped-def]
        s += "Question: " + question + "\n"
        s += "A good person to answer this question is" + sgl.gen("expert", stop=[".", "\n"]) + ".\n"
        s += "For example, " + s["expert"].strip() + " would answer: " + sgl.gen("answer")

    state = expert_answer.run(question="Q", backend=ScriptedBackend([" Ada ", "42"]))
    assert "For example, Ada would answer: 42" in state.text()


def test_parallel_tips() -> None:
    @sgl.function
    def parallel_decoding(s, topic):  # type: ignore[no-untyped-def]
        s += "Act as a helpful assistant.\nUSER: Give tips on " + topic + ".\nASSISTANT: Two tips.\n"
        paragraphs = s.fork(2)
        for i in range(2):
            paragraphs[i] += f"\nTip {i + 1}:" + sgl.gen("detailed_tip", max_tokens=64)
        paragraphs.join()
        s += "\n".join(f"Tip {i + 1}: {tip}" for i, tip in enumerate(s["detailed_tip"]))
        s += "\nIn summary," + sgl.gen("summary", max_tokens=64)

    state = parallel_decoding.run(topic="staying fit", backend=ScriptedBackend(lambda p, _: p[-6:].strip() + "..."))
    assert len(state["detailed_tip"]) == 2
    assert state["summary"]


def test_an_agent_that_reasons_and_acts() -> None:
    @sgl.function
    def react(s, question):  # type: ignore[no-untyped-def]
        s += f"Question: {question}\n"
        for i in range(1, 5):
            s += f"Thought {i}:" + sgl.gen(name=f"thought_{i}", stop=["\n"])
            s += f"\nAction {i}: "
            s += sgl.gen(name=f"action_{i}", choices=["Search", "Finish"])
            if s[f"action_{i}"] == "Finish":
                s += "[" + sgl.gen(name="answer", stop="]") + "]"
                break
            s += f"\nObservation {i}: nothing\n"
        return s["answer"]

    def scores(prompt: str, choice: str) -> list[float]:
        return [0.0 if (choice == "Finish") == ("Observation 1" in prompt) else -5.0] * len(choice)

    state = react.run(
        question="?", backend=ScriptedBackend(lambda p, _: "42" if p.endswith("[") else " hm", scores=scores)
    )
    assert state.ret_value == "42"
    assert "thought_2" in state
    assert "thought_3" not in state


def test_a_tree_of_thought_with_plain_helper_functions() -> None:
    def propose_plan(s: Any, question: str, num_branches: int) -> Any:
        s += sgl.user("Make a plan for: " + question)
        forks = s.fork(num_branches)
        forks += sgl.assistant(sgl.gen("plan", max_tokens=256, temperature=0.3))
        return forks

    def solve(s: Any, num_branches: int) -> Any:
        s += sgl.user("Solve it.")
        forks = s.fork(num_branches)
        forks += sgl.assistant(sgl.gen("solution"))
        return forks

    @sgl.function
    def tree_search(s, question, num_branches):  # type: ignore[no-untyped-def]
        plans = propose_plan(s, question, num_branches)
        solutions = []
        for plan in plans:
            forks = solve(plan, num_branches)
            forks.join()
            solutions.append(plan["solution"])
        plans.join()
        return solutions

    backend = ScriptedBackend(hold_for=0)
    state = tree_search.run(question="24", num_branches=2, backend=backend)
    assert state.ret_value == [["ok", "ok"], ["ok", "ok"]]
    assert state["solution"] == state.ret_value
    assert len(backend.requests) == 6


def test_regex_and_dtype() -> None:
    regex = r"((25[0-5]|2[0-4]\d|[01]?\d\d?).){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)"

    @sgl.function
    def regex_gen(s):  # type: ignore[no-untyped-def]
        s += "Q: What is the IP address of the Google DNS servers?\n"
        s += "A: " + sgl.gen("answer", temperature=0, regex=regex)

    @sgl.function
    def dtype_gen(s):  # type: ignore[no-untyped-def]
        s += "Q: What is the full name of DNS?\n" + "A: The full names is " + sgl.gen("str_res", dtype=str, stop="\n")
        s += "\nQ: Which year was DNS invented?\n" + "A: " + sgl.gen("int_res", dtype=int)
        s += "\nQ: What is the value of pi?\n" + "A: " + sgl.gen("float_res", dtype=float)
        s += "\nQ: Is the sky blue?\n" + "A: " + sgl.gen("bool_res", dtype=bool)

    assert regex_gen.run(backend=ScriptedBackend("8.8.8.8"))["answer"] == "8.8.8.8"
    state = dtype_gen.run(backend=ScriptedBackend(['"Domain"', "1983", "3.14", "True"]))
    assert (int(state["int_res"]), float(state["float_res"]), state["bool_res"]) == (1983, 3.14, "True")


def test_a_stream_read_sync_and_async() -> None:
    @sgl.function
    def qa(s, question):  # type: ignore[no-untyped-def]
        s += sgl.system("You are a helpful assistant.")
        s += sgl.user(question)
        s += sgl.assistant(sgl.gen("answer"))

    sgl.set_default_backend(ScriptedBackend("a long answer"))
    state = qa.run(question="List facts", stream=True)
    out = ""
    for chunk in state.text_iter():
        out += chunk
    assert out == state.text()

    async def read() -> str:
        state = qa.run(question="List facts", stream=True)
        out = ""
        async for chunk in state.text_async_iter(var_name="answer"):
            out += chunk
        return out

    assert asyncio.run(read()) == "a long answer"


def test_multiple_choice_by_likelihood() -> None:
    @sgl.function
    def few_shot_hellaswag(s, question, choices):  # type: ignore[no-untyped-def]
        s += "Examples.\n"
        s += question
        s += sgl.select("answer", choices=choices)

    def scores(prompt: str, choice: str) -> list[float]:
        return [-0.1 if choice == "right" else -1.0] * len(choice)

    states = few_shot_hellaswag.run_batch(
        [{"question": "1", "choices": ["wrong", "right"]}, {"question": "2", "choices": ["right", "worse"]}],
        temperature=0,
        backend=ScriptedBackend(scores=scores),
    )
    assert [state["answer"] for state in states] == ["right", "right"]
    assert states[0].get_meta_info("answer")["normalized_prompt_logprobs"] == [-1.0, -0.1]


def test_a_branch_solve_merge_judge() -> None:
    dimensions = ("Clarity", "Originality")

    @sgl.function
    def multi_dimensional_judge(s, article):  # type: ignore[no-untyped-def]
        s += sgl.system("Evaluate the essay.")
        s += sgl.user(article)
        s += sgl.assistant_begin()
        forks = s.fork(len(dimensions))
        for f, dim in zip(forks, dimensions):  # noqa: B905
            f += "Judgment on " + dim + ": " + sgl.gen("judgment", stop="END")
        judgment = "\n".join(f["judgment"] for f in forks)
        s += judgment + "\nGrade: " + sgl.gen("grade", max_tokens=2)
        s += sgl.assistant_end()

    state = multi_dimensional_judge.run(article="...", backend=ScriptedBackend(lambda p, _: p.split()[-1]))
    assert state.messages()[-1] == {"role": "assistant", "content": "Clarity:\nOriginality:\nGrade: Grade:"}
