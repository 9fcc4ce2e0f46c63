"""What @function makes of a Python function: a program that runs on a backend, alone, in batches or streamed.

Here: Program, its argument checks, and Call, one run of it.  Not here: the state it writes to (state), how many share
a thread (batch)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from .batch import run_many, run_many_async
from .default import resolve_backend, running_backend
from .errors import ArgumentError, BatchErrors, ProgramCancelled
from .executor import Run
from .foresight import ITEMS_AT_ONCE, plan_ahead
from .graph import PrefixGraph
from .loop import loop_thread
from .nodes import caller_line, kind_of
from .operations import Finish
from .options import RUN_OPTIONS, SamplingOptions, read_options
from .progress import progress_of
from .state import ProgramState
from .streaming import StreamedState
from .trace import refuse_while_tracing, trace_function
from .waiting import Promise, run_async

__all__ = ["Program", "function"]

_AUTO_IN_FLIGHT = 1024  # programs of a batch at a time; the backend queues what it can't run yet
_RUN_ARGUMENTS = RUN_OPTIONS | {"backend", "stream", "use_thread"}
_BATCH_ARGUMENTS = RUN_OPTIONS | {"backend"}


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

    All take the program's own arguments, and for its gens the run-level options of SGLang: max_new_tokens,
    min_new_tokens, n, stop, stop_token_ids, stop_regex, temperature, top_p, top_k, min_p, frequency_penalty,
    presence_penalty, repetition_penalty, logit_bias, seed, ignore_eos, return_logprob, logprob_start_len,
    top_logprobs_num, return_text_in_logprobs; and `backend`."""

    def __init__(
        self,
        func: Callable[..., Any],
        num_api_spec_tokens: int | None = None,
        bound: Mapping[str, Any] | None = None,
        *,
        trace: bool | None = None,
    ) -> None:
        if not callable(func):
            raise _refusal(f"@function goes before a function, got {func!r}")
        functools.update_wrapper(self, func)
        self.func, self.num_api_spec_tokens, self.bound = func, num_api_spec_tokens, dict(bound or {})
        self.foresee = trace
        self.name = getattr(func, "__name__", "program")
        if inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
            raise _refusal(
                f"program {self.name!r} is an `async def`: write it as a plain `def` and run it in an event loop with "
                f"{self.name}.arun(...); its reads then give way to the loop by themselves"
            )
        if inspect.isgeneratorfunction(func):
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
        return Program(self.func, self.num_api_spec_tokens, {**self.bound, **arguments}, trace=self.foresee)

    def trace(self, *args: Any, **kwargs: Any) -> PrefixGraph:
        """What the program will ask of a model, as far as that can be known before: a PrefixGraph.

        Runs the function once, with these arguments and placeholders for those left out; no model is asked.  The graph
        ends in an open node where the program decides by something that only a run knows."""
        self._check_names(kwargs)
        fixed = {name: value for name, value in self.bound.items() if name not in kwargs}
        try:
            given = self._own_signature.bind_partial(*args, **fixed, **kwargs)
        except TypeError as error:
            raise _refusal(f"program {self.name}{self._own_signature}: {error}") from None
        return trace_function(self.name, self.func, given)

    # ---- running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """program(x): run it.  program(s, x) inside another program: run its code on that state, and return what it
        returns."""
        if args and isinstance(args[0], ProgramState):
            self._check_names(kwargs)
            bound = self._bind(args[1:], kwargs)
            return self.func(args[0], *bound.args, **bound.kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> ProgramState:
        """Run to the end and return the state.  Raises what the program raised, or the error of a node that the
        program did not read."""
        call, stream = self._call(args, kwargs, streaming_allowed=True)
        if stream:
            call.plan_ahead()
            return call.stream()  # type: ignore[return-value]  # as in SGLang, run(stream=True) returns what can be read along
        return call.execute_ahead()

    def stream(self, *args: Any, **kwargs: Any) -> StreamedState:
        """Start, and return a state to read along: `for text in program.stream(...)`."""
        call, _ = self._call(args, kwargs, stream=True)
        call.plan_ahead()
        return call.stream()

    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState:
        """run, for coroutines: the code runs in this event loop's thread and gives way to it at every read."""
        call, _ = self._call(args, kwargs)
        loop_thread().refuse_own_thread()
        state: ProgramState = await run_async(call.execute_ahead)
        return state

    def astream(self, *args: Any, **kwargs: Any) -> StreamedState:
        """stream, for coroutines: `async for text in program.astream(...)`."""
        return self.stream(*args, **kwargs)

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

        num_threads      how many programs are in flight at once ("auto": 1024); there is no thread each, the name is
                         SGLang's
        generator_style  an iterator instead, in order, each state as soon as it and those before it are done
        return_errors    failed programs come back as states that hold their error, as state.error(); without it
                         BatchErrors is raised, once all have ended, with every error and every state.
                         generator_style raises a program's error in its place
        """
        limit = _in_flight(num_threads)
        calls = self._calls(batch_kwargs, options)
        if generator_style:
            return self._generate(calls, limit, return_errors, progress_bar)
        outcomes: list[Promise | None] = [None] * len(calls)
        for index, outcome in progress_of(run_many(self._bodies(calls, limit), limit), len(calls), progress_bar):
            outcomes[index] = outcome
        return _states(calls, outcomes, return_errors)

    async def arun_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        num_threads: int | str = "auto",
        return_errors: bool = False,
        **options: Any,
    ) -> list[ProgramState]:
        """run_batch, for coroutines."""
        limit = _in_flight(num_threads)
        calls = self._calls(batch_kwargs, options)
        loop_thread().refuse_own_thread()
        outcomes: list[Promise | None] = [None] * len(calls)
        async for index, outcome in run_many_async(self._bodies(calls, limit), limit):
            outcomes[index] = outcome
        return _states(calls, outcomes, return_errors)

    def _generate(
        self, calls: list[Call], limit: int, return_errors: bool, progress_bar: bool
    ) -> Iterator[ProgramState]:
        ended = run_many(self._bodies(calls, limit), limit, in_order=True)
        for index, outcome in progress_of(ended, len(calls), progress_bar):
            if not return_errors:
                outcome.result()
            yield calls[index].state

    def _bodies(self, calls: Sequence[Call], limit: int) -> Iterator[Callable[[], ProgramState]]:
        """What a batch runs, planned ahead some at a time: no more than may be in flight."""
        size = min(limit, ITEMS_AT_ONCE)
        for first in range(0, len(calls), size):
            together = calls[first : first + size]
            plan_ahead(self, [(call.run, call.arguments) for call in together])
            yield from (call.execute for call in together)

    # ---- arguments

    def _call(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, stream: bool = False, streaming_allowed: bool = False
    ) -> tuple[Call, bool]:
        """One run: its own arguments and the run's told apart."""
        clashes = [name for name in kwargs if name in _RUN_ARGUMENTS and name in self.arg_names]
        if clashes:
            name = clashes[0]
            raise _refusal(
                f"{name!r} is an argument of program {self.name!r} and an option of the run, "
                f"so {name}=... could mean either: "
                f"pass it by position, as {self.name}.bind({name}=...).run(...), or rename the program's argument"
            )
        own = {name: value for name, value in kwargs.items() if name not in _RUN_ARGUMENTS}
        of_run = {name: value for name, value in kwargs.items() if name in _RUN_ARGUMENTS}
        refuse_while_tracing(f"it runs program {self.name!r} by itself")
        backend = resolve_backend(of_run.pop("backend", None), f"program {self.name!r}")
        of_run.pop("use_thread", None)  # SGLang's; no program has a thread here
        wants_stream = bool(of_run.pop("stream", False)) and streaming_allowed
        options = read_options(of_run, f"{self.name}.run, {caller_line()}")
        self._check_names(own)
        run = Run(backend, options, stream=stream or wants_stream)
        return Call(self, self._bind(args, own), run), wants_stream

    def _calls(self, batch: Sequence[Mapping[str, Any] | Sequence[Any]], options: Mapping[str, Any]) -> list[Call]:
        """The runs of a batch.  Its items hold the program's arguments only, so that no name is ambiguous."""
        unknown = [name for name in options if name not in _BATCH_ARGUMENTS]
        if unknown:
            raise _refusal(
                f"run_batch has no option {unknown[0]!r}; the program's arguments belong into the items, or into bind"
            )
        if isinstance(batch, (str, Mapping)) or not isinstance(batch, Iterable):
            raise _refusal(f"run_batch takes a list of dicts or tuples, got {kind_of(batch)}")
        rest = dict(options)
        items = list(batch)
        if not items:
            return []
        refuse_while_tracing(f"it runs program {self.name!r} by itself")
        backend = resolve_backend(rest.pop("backend", None), f"program {self.name!r}")
        sampling = read_options(rest, f"{self.name}.run_batch, {caller_line()}")
        return [self._batch_call(index, item, backend, sampling) for index, item in enumerate(items)]

    def _batch_call(self, index: int, item: Any, backend: Any, sampling: SamplingOptions) -> Call:
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
        return Call(self, bound, Run(backend, sampling, stream=False))

    def _check_names(self, arguments: Mapping[str, Any]) -> None:
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in self._parameters):
            return
        for name in arguments:
            if name not in self.arg_names:
                raise _refusal(
                    f"program {self.name!r} has no argument {name!r}; it has {', '.join(self.arg_names) or 'none'}"
                )

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        own = self._own_signature
        fixed = {name: value for name, value in self.bound.items() if name not in kwargs}
        try:
            return own.bind(*args, **fixed, **kwargs)
        except TypeError as error:
            raise _refusal(f"program {self.name}{own}: {error}") from None


class Call:
    """One run of a program: its arguments, its Run and its state."""

    def __init__(self, program: Program, arguments: inspect.BoundArguments, run: Run) -> None:
        self._program, self.arguments, self.run = program, arguments, run
        self.state = ProgramState.root(run)

    def plan_ahead(self) -> None:
        plan_ahead(self._program, [(self.run, self.arguments)])

    def execute_ahead(self) -> ProgramState:
        self.plan_ahead()
        return self.execute()

    def execute(self) -> ProgramState:
        """The program's code, in this thread, and then whatever it left to do."""
        state, shared = self.state, self.state._shared
        before = running_backend.set(self.run.backend)
        try:
            shared.return_value = self._program.func(state, *self.arguments.args, **self.arguments.kwargs)
            loop_thread().until_done(shared.end(f"program {self._program.name!r} has returned"))
            self._finish_kept_branches()
        except BaseException as error:
            ended_from_outside = not isinstance(error, Exception)  # GreenletExit, KeyboardInterrupt
            shared.body_error = ProgramCancelled("the program was abandoned") if ended_from_outside else error
            shared.closed = f"program {self._program.name!r} has failed"
            self.run.cancel(f"program {self._program.name!r} raised {type(error).__name__}")
            raise
        finally:
            running_backend.reset(before)
            if self.run.ahead is not None:
                self.run.ahead.close()
        unseen = self.run.unseen_error()
        if unseen is not None:
            shared.body_error = unseen
            raise unseen
        return state

    def _finish_kept_branches(self) -> None:
        """Branches that were not joined and that somebody can still read, a variable for one, end with the run."""
        for branch in self.run.branches():
            if branch.fork is not None:
                promise = Promise()
                branch.submit(Finish(promise, branch, last=False))
                loop_thread().until_done(promise)

    def stream(self) -> StreamedState:
        run, shared, name = self.run, self.state._shared, self._program.name

        def body() -> None:
            try:
                self.execute()
            finally:
                if shared.closed is None:
                    shared.closed = f"program {name!r} has ended"

        return StreamedState(shared, run, body)


def _refusal(message: str) -> ArgumentError:
    return ArgumentError(f"{message} (at {caller_line()})")


def _in_flight(num_threads: object) -> int:
    if num_threads == "auto":
        return _AUTO_IN_FLIGHT
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise _refusal(f'num_threads: got {num_threads!r}, wanted "auto" or 1 or more programs at a time')
    return num_threads


def _states(calls: list[Call], outcomes: Sequence[Promise | None], return_errors: bool) -> list[ProgramState]:
    errors = {index: outcome.error for index, outcome in enumerate(outcomes) if outcome is not None and outcome.error}
    states = [call.state for call in calls]
    if errors and not return_errors:
        raise BatchErrors(errors, states)
    return states
