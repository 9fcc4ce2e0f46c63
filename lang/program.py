"""What @function makes of a Python function: a program that runs on a backend, alone, in batches or streamed.

Here: Program and its argument checks.  Not here: one run of it (call), the state it writes to (state), how many share a
thread (batch)."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .async_state import AsyncState
from .async_streaming import AsyncStreamedState
from .backends.protocol import Backend
from .batch import run_many
from .call import Call, arun_all, bodies_of, states_of
from .default import resolve_backend
from .errors import ArgumentError
from .events import StreamEvent
from .executor import Run
from .graph import PrefixGraph
from .loop import loop_thread
from .nodes import caller_line, kind_of
from .progress import progress_of
from .run_options import OF_A_RUN, RunOptions, read_run_options, told_apart
from .state import ProgramState
from .streaming import StreamedState
from .trace import refuse_while_tracing, trace_function
from .waiting import Promise, run_async

if TYPE_CHECKING:
    from .explanation import Explanation

__all__ = ["Program", "function"]

T = TypeVar("T")

_AUTO_IN_FLIGHT = 1024  # programs of a batch at a time, on a backend that does not say how much it takes
_RUN_ARGUMENTS = OF_A_RUN | {"stream", "use_thread"}


@overload
def function(
    func: Callable[..., Any], num_api_spec_tokens: int | None = None, *, trace: bool | None = None
) -> Program: ...
@overload
def function(
    func: None = None, num_api_spec_tokens: int | None = None, *, trace: bool | None = None
) -> Callable[[Callable[..., Any]], Program]: ...
def function(
    func: Callable[..., Any] | None = None, num_api_spec_tokens: int | None = None, *, trace: bool | None = None
) -> Program | Callable[[Callable[..., Any]], Program]:
    """Make a program of a function whose first parameter is the state `s`; with or without parentheses.

    trace  may a run first trace the function, which runs it once more on placeholders, so that an engine can do its
           model calls in one go?  None: where its code visibly does nothing but write to its state; True: always;
           False: never.  It changes how fast a program is, and nothing else.
    num_api_spec_tokens is SGLang's way to save calls to paid APIs; the backends here don't need it, and it changes
    nothing."""
    if func is None:
        return lambda func: Program(func, num_api_spec_tokens, trace=trace)
    return Program(func, num_api_spec_tokens, trace=trace)


class Program:
    """Run it with run, run_batch or stream, or in an event loop with arun, arun_batch or astream.

    All take the program's own arguments, and beside them options of the run: for its gens those of SGLang,
    max_new_tokens, min_new_tokens, n, stop, stop_token_ids, stop_regex, temperature, top_p, top_k, min_p,
    frequency_penalty, presence_penalty, repetition_penalty, logit_bias, seed, ignore_eos, return_logprob,
    logprob_start_len, top_logprobs_num, return_text_in_logprobs; `backend`; and `timeout`, in seconds from the start of
    the run to its end.  A name that the program's own argument has means that argument; options(...) takes all of
    them."""

    def __init__(
        self,
        func: Callable[..., Any],
        num_api_spec_tokens: int | None = None,
        bound: Mapping[str, Any] | None = None,
        run_options: RunOptions | None = None,
        *,
        trace: bool | None = None,
    ) -> None:
        if not callable(func):
            raise _refusal(f"@function goes before a function, got {func!r}")
        functools.update_wrapper(self, func)
        self.func, self.num_api_spec_tokens, self.bound = func, num_api_spec_tokens, dict(bound or {})
        self.run_options, self.foresee = run_options or RunOptions(), trace
        self.name = getattr(func, "__name__", "program")
        self.is_async = inspect.iscoroutinefunction(func)
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise _refusal(
                f"program {self.name!r} has a yield: a program returns, and is read along with {self.name}.stream(...)"
            )
        self._signature = inspect.signature(func)
        parameters = list(self._signature.parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise _refusal(f"program {self.name!r} has no parameter for the state: write def {self.name}(s, ...)")
        self._parameters = parameters[1:]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.arg_names = [parameter.name for parameter in self._parameters if parameter.kind not in variadic]
        self._own_signature = self._signature.replace(parameters=self._parameters)
        self._check_names(self.bound)

    def __repr__(self) -> str:
        return f"<program {self.name}{self._signature}>"

    def bind(self, **arguments: Any) -> Program:
        """The same program with some of its arguments fixed."""
        return self._variant({**self.bound, **arguments}, self.run_options)

    def options(self, **options: Any) -> Program:
        """The same program with these options for its runs: f.options(temperature=0, timeout=5).run(...).  What a run
        or a gen says itself goes first."""
        unknown = [name for name in options if name not in OF_A_RUN]
        if unknown:
            raise _refusal(
                f"a run has no option {unknown[0]!r}; arguments of the program are fixed with {self.name}.bind(...)"
            )
        read = read_run_options(options, f"{self.name}.options, {caller_line()}")
        return self._variant(self.bound, read.over(self.run_options))

    def _variant(self, bound: Mapping[str, Any], run_options: RunOptions) -> Program:
        return Program(self.func, self.num_api_spec_tokens, bound, run_options, trace=self.foresee)

    def trace(self, *args: Any, **kwargs: Any) -> PrefixGraph:
        """What the program will ask of a model, as far as that can be known before: a PrefixGraph.

        Runs the function once, with these arguments and placeholders for those left out; no model is asked.  The graph
        ends in an open node where the program decides by something that only a run knows."""
        self._check_names(kwargs)
        return trace_function(self.name, self.func, self._bind(args, kwargs, partly=True))

    # ---- explaining

    def explain(self, *args: Any, analyze: bool = False, **kwargs: Any) -> Explanation:
        """Which tokens the program's calls share and what each will compute; print it, or see to_json and to_html.

        Takes what run takes; arguments that are left out stay open.  Of the backend it asks token counts only.
        analyze  run the program too, on an empty cache, and show what it did beside what was planned"""
        own, of_run = told_apart(kwargs, self.arg_names, OF_A_RUN)
        return self._explain([(args, own)], of_run, analyze)

    def explain_batch(
        self, batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]], *, analyze: bool = False, **options: Any
    ) -> Explanation:
        """explain, of a batch on one cache: what its runs share is computed once.  Takes what run_batch takes."""
        runs: list[tuple[Sequence[Any], Mapping[str, Any]]] = [
            ((), item) if isinstance(item, Mapping) else (tuple(item), {}) for item in batch_kwargs
        ]
        if not runs:
            raise _refusal("explain_batch: the batch is empty")
        return self._explain(runs, options, analyze)

    def _explain(
        self, runs: Sequence[tuple[Sequence[Any], Mapping[str, Any]]], of_run: Mapping[str, Any], analyze: bool
    ) -> Explanation:
        from .explain import explain_runs

        refuse_while_tracing(f"it explains program {self.name!r}")
        for _, own in runs:
            self._check_names(own)
        options = read_run_options(of_run, f"{self.name}.explain, {caller_line()}").over(self.run_options)
        backend = resolve_backend(options.backend, f"program {self.name!r}")
        bound = [self._bind(args, own, partly=not analyze) for args, own in runs]
        calls = [Call(self, each, Run(backend, options.sampling, stream=False), options.timeout) for each in bound]
        return explain_runs(self, bound, options.sampling, backend, calls=calls if analyze else None)

    # ---- running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """program(x): run it.  program(s, x) inside another program: run its code on that state, and return what it
        returns; in an async program, await program(s, x), whichever of the two `program` is."""
        if args and isinstance(args[0], ProgramState):
            self._check_inline(kwargs)
            bound = self._bind(args[1:], kwargs)
            return self._inline(args[0], bound)
        return self.run(*args, **kwargs)

    def _inline(self, state: ProgramState, bound: inspect.BoundArguments) -> Any:
        if not isinstance(state, AsyncState):
            if self.is_async:
                raise _refusal(f"program {self.name!r} is an async def, and can't run on the state of a plain program")
            return self.func(state, *bound.args, **bound.kwargs)
        if self.is_async:
            return self.func(state, *bound.args, **bound.kwargs)
        return run_async(partial(self.func, ProgramState(state._shared), *bound.args, **bound.kwargs))

    def run(self, *args: Any, **kwargs: Any) -> ProgramState:
        """Run to the end and return the state.  Raises what the program raised, or the error of a node that the
        program did not read."""
        call, stream = self._call(args, kwargs, streaming_allowed=not self.is_async)
        if self.is_async:
            return self._in_a_loop(call.arun_ahead, "arun")
        if stream:
            call.plan_ahead()
            return call.stream()  # type: ignore[return-value]  # as in SGLang, run(stream=True) returns what can be read along
        return call.execute_ahead()

    def stream(self, *args: Any, **kwargs: Any) -> StreamedState:
        """Start, and return a state to read along: `for text in program.stream(...)`."""
        if self.is_async:
            raise _refusal(f"program {self.name!r} is an async def: read it along in an event loop, with astream(...)")
        call, _ = self._call(args, kwargs, stream=True)
        call.plan_ahead()
        return call.stream()

    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState:
        """run, for coroutines: the code runs in this event loop's thread and gives way to it at every read."""
        call, _ = self._call(args, kwargs)
        loop_thread().refuse_own_thread()
        return await call.arun_ahead()

    def astream(self, *args: Any, **kwargs: Any) -> StreamedState | AsyncStreamedState:
        """stream, for coroutines: `async for text in program.astream(...)`."""
        if not self.is_async:
            return self.stream(*args, **kwargs)
        call, _ = self._call(args, kwargs, stream=True)
        call.plan_ahead()
        return call.astream()

    def stream_events(self, *args: Any, **kwargs: Any) -> Iterator[StreamEvent]:
        """Start, and iterate over what all its branches do: `for event in program.stream_events(...)`."""
        return self.stream(*args, **kwargs).events()

    def astream_events(self, *args: Any, **kwargs: Any) -> AsyncIterator[StreamEvent]:
        """stream_events, for coroutines."""
        return self.astream(*args, **kwargs).aevents()

    def run_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        num_threads: int | str = "auto",
        progress_bar: bool = False,
        generator_style: bool = False,
        return_errors: bool = False,
        **options: Any,
    ) -> Any:
        """Run once per item (a dict of arguments, or a tuple by position) and return the states in that order.

        num_threads      how many programs are in flight at once; there is no thread each, the name is SGLang's.
                         "auto": twice as many as the backend takes requests at a time, 1024 if it does not say
        generator_style  an iterator instead, in order, each state as soon as it and those before it are done
        return_errors    failed programs come back as states that hold their error, as state.error(); without it
                         BatchErrors is raised, once all have ended, with every error and every state.
                         generator_style raises a program's error in its place
        """
        calls = self._calls(batch_kwargs, options)
        limit = _in_flight(num_threads, calls)
        if self.is_async:
            if generator_style:
                raise _refusal(
                    f"program {self.name!r} is an async def, and generator_style would need a loop to run in"
                )
            return self._in_a_loop(partial(arun_all, self, calls, limit, return_errors), "arun_batch")
        if generator_style:
            return self._generate(calls, limit, return_errors, progress_bar)
        outcomes: list[Promise | None] = [None] * len(calls)
        ended = run_many(bodies_of(self, calls, limit, Call.execute_ahead), limit)
        for index, outcome in progress_of(ended, len(calls), progress_bar):
            outcomes[index] = outcome
        return states_of(calls, outcomes, return_errors)

    async def arun_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        num_threads: int | str = "auto",
        return_errors: bool = False,
        **options: Any,
    ) -> list[ProgramState]:
        """run_batch, for coroutines."""
        calls = self._calls(batch_kwargs, options)
        limit = _in_flight(num_threads, calls)
        loop_thread().refuse_own_thread()
        return await arun_all(self, calls, limit, return_errors)

    def _in_a_loop(self, start: Callable[[], Coroutine[Any, Any, T]], twin: str) -> T:
        """Run in an event loop of its own, in this thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(start())
        raise _refusal(
            f"program {self.name!r} is an async def, and an event loop is running here already: "
            f"await {self.name}.{twin}(...)"
        )

    def execute_all(self, calls: Sequence[Call]) -> None:
        """Run them to their ends, together.  Raises BatchErrors."""
        if self.is_async:
            self._in_a_loop(lambda: arun_all(self, calls, len(calls), False), "arun_batch")
            return
        outcomes: list[Promise | None] = [None] * len(calls)
        for index, outcome in run_many(bodies_of(self, calls, len(calls), Call.execute_ahead), len(calls)):
            outcomes[index] = outcome
        states_of(calls, outcomes, False)

    def _generate(
        self, calls: list[Call], limit: int, return_errors: bool, progress_bar: bool
    ) -> Iterator[ProgramState]:
        ended = run_many(bodies_of(self, calls, limit, Call.execute_ahead), limit, in_order=True)
        for index, outcome in progress_of(ended, len(calls), progress_bar):
            if not return_errors:
                outcome.result()
            yield calls[index].state

    # ---- arguments

    def _call(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, stream: bool = False, streaming_allowed: bool = False
    ) -> tuple[Call, bool]:
        """One run: its own arguments and the run's told apart."""
        refuse_while_tracing(f"it runs program {self.name!r} by itself")
        own, of_run = told_apart(kwargs, self.arg_names, _RUN_ARGUMENTS)
        of_run.pop("use_thread", None)  # SGLang's; no program has a thread here
        wants_stream = bool(of_run.pop("stream", False)) and streaming_allowed
        options = read_run_options(of_run, f"{self.name}.run, {caller_line()}").over(self.run_options)
        backend = resolve_backend(options.backend, f"program {self.name!r}")
        self._check_names(own)
        run = Run(backend, options.sampling, stream=stream or wants_stream)
        return Call(self, self._bind(args, own), run, options.timeout), wants_stream

    def _calls(self, batch: Sequence[Mapping[str, Any] | Sequence[Any]], options: Mapping[str, Any]) -> list[Call]:
        """The runs of a batch.  Its items hold the program's arguments only, so that no name is ambiguous."""
        unknown = [name for name in options if name not in OF_A_RUN]
        if unknown:
            raise _refusal(
                f"run_batch has no option {unknown[0]!r}; the program's arguments belong into the items, or into bind"
            )
        if isinstance(batch, (str, Mapping)) or not isinstance(batch, Iterable):
            raise _refusal(f"run_batch takes a list of dicts or tuples, got {kind_of(batch)}")
        items = list(batch)
        if not items:
            return []
        refuse_while_tracing(f"it runs program {self.name!r} by itself")
        of_runs = read_run_options(options, f"{self.name}.run_batch, {caller_line()}").over(self.run_options)
        backend = resolve_backend(of_runs.backend, f"program {self.name!r}")
        return [self._batch_call(index, item, backend, of_runs) for index, item in enumerate(items)]

    def _batch_call(self, index: int, item: Any, backend: Backend, options: RunOptions) -> Call:
        try:
            if isinstance(item, Mapping):
                self._check_names(item)
                bound = self._bind((), item)
            elif isinstance(item, (list, tuple)):
                bound = self._bind(item, {})
            else:
                raise _refusal(f"wanted a dict or a tuple of arguments, got {kind_of(item)}")
        except ArgumentError as error:
            raise ArgumentError(f"item {index} of the batch: {error}") from None
        return Call(self, bound, Run(backend, options.sampling, stream=False), options.timeout)

    def _check_names(self, arguments: Mapping[str, Any]) -> None:
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in self._parameters):
            return
        for name in arguments:
            if name not in self.arg_names:
                raise _refusal(
                    f"program {self.name!r} has no argument {name!r}; it has {', '.join(self.arg_names) or 'none'}"
                )

    def _check_inline(self, keywords: Mapping[str, Any]) -> None:
        self._check_names(keywords)
        if self.run_options != RunOptions():
            raise _refusal(
                f"program {self.name!r} has options of its own, and code that runs on another program's state has that "
                f"run's: call it without options(...), or as a run of its own, {self.name}.run(...)"
            )

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, partly: bool = False) -> inspect.BoundArguments:
        """partly: what is left out stays open."""
        own = self._own_signature
        fixed = {name: value for name, value in self.bound.items() if name not in kwargs}
        try:
            return (own.bind_partial if partly else own.bind)(*args, **fixed, **kwargs)
        except TypeError as error:
            raise _refusal(f"program {self.name}{own}: {error}") from None


def _refusal(message: str) -> ArgumentError:
    return ArgumentError(f"{message} (at {caller_line()})")


def _in_flight(num_threads: object, calls: Sequence[Call]) -> int:
    """How many programs run at a time.  "auto" is twice what their backend takes: while half of them wait for it, the
    others have something for it, and none comes back to a prefix that is long out of the cache."""
    if num_threads == "auto":
        bound = getattr(calls[0].run.backend, "max_in_flight", None) if calls else None
        return _AUTO_IN_FLIGHT if bound is None else 2 * int(bound)
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise _refusal(f'num_threads: got {num_threads!r}, wanted "auto" or 1 or more programs at a time')
    return num_threads
