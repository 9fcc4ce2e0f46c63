"""Run a program on placeholders and keep what it would ask of a model: a PrefixGraph.

Here: trace, TracedBranch (takes the operations of a branch and performs none), and why a trace ends open.
Not here: what stands for a value (placeholders), the graph (graph).  Imported by program; runs in the caller's thread.

The program's own function is run once, with the arguments it was given and placeholders for those it was not.  Reading
a variable gives a placeholder at once.  Whatever else the function does it does here too: printing, counting, writing
files.  Loops and branches on values that are there are followed; the first look into a placeholder ends the trace in
an open node that says why, and where."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from .async_state import AsyncState
from .backends.protocol import EVERYTHING, Backend, ChatFormat, ModelInfo
from .chat import RoleTracker
from .executor import Branch, Operation, Run, Slot
from .graph import (
    ArgumentNode,
    ForkNode,
    GenNode,
    GraphBranch,
    GraphNode,
    JoinNode,
    OpenNode,
    OutputNode,
    PrefixGraph,
    RoleBeginNode,
    RoleEndNode,
    SelectNode,
    TextNode,
    VariableNode,
)
from .nodes import Fork, Node, RoleBegin, SourceLine, caller_line
from .operations import Append, Choose, Finish, ForkOff, Generate, Read, Role, ScopeBegin, ScopeEnd
from .options import CONSTRAINTS, SamplingOptions
from .placeholders import Placeholders, Reference, TracedValue, TraceEnds, ends_seen
from .reading import Shared
from .state import ProgramState

__all__ = ["MAX_NODES", "refuse_while_tracing", "trace_function"]

MAX_NODES = 20_000  # a program that goes on longer is traced so far, and the graph says so

_NO_OPTIONS = SamplingOptions()
_ROLES = ("system", "user", "assistant")


def refuse_while_tracing(what: str) -> None:
    """Ends a trace that would start something by itself; does nothing outside one."""
    if ends_seen.get() is not None:
        raise TraceEnds(what)


def trace_function(
    name: str,
    func: Callable[..., Any],
    arguments: inspect.BoundArguments | None,
    options: SamplingOptions = _NO_OPTIONS,
) -> PrefixGraph:
    """The graph of `func`, whose first parameter is the state.  Arguments that `arguments` lacks are left open.
    `options` are those of the run.

    Raises nothing that the program raises: an error ends the trace, and a run will raise it where it belongs."""
    signature = inspect.signature(func)
    tracer = _Tracer(name, options)
    own = list(signature.parameters.values())[1:]
    given = dict(arguments.arguments) if arguments is not None else {}
    args, kwargs = _filled(own, given, tracer)
    kind = AsyncState if inspect.iscoroutinefunction(func) else ProgramState
    state = kind(Shared(tracer.root, {}, RoleTracker()))
    token = ends_seen.set(tracer.ends)
    failure: Exception | None = None
    try:
        returned = func(state, *args, **kwargs)
        if inspect.iscoroutine(returned):
            _finish_coroutine(returned)
    except TraceEnds:
        pass  # it is the first of tracer.ends, or follows from it
    except Exception as error:
        failure = error
    finally:
        ends_seen.reset(token)
    if failure is not None and not tracer.ends:
        tracer.ends.append(TraceEnds(tracer.placeholders.shown(_of_error(failure)), _line_of(failure, func)))
    return tracer.graph(tuple(each.name for each in own if each.name in tracer.left_open))


def _filled(
    own: list[inspect.Parameter], given: Mapping[str, Any], tracer: _Tracer
) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in own:
        name, kind = parameter.name, parameter.kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(given.get(name, ()))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            kwargs.update(given.get(name, {}))
        elif name in given or parameter.default is inspect.Parameter.empty:
            value = given[name] if name in given else tracer.argument(name)
            if kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
        elif kind is inspect.Parameter.KEYWORD_ONLY:
            kwargs[name] = parameter.default
        else:
            args.append(parameter.default)
    return args, kwargs


def _finish_coroutine(coroutine: Any) -> None:
    """An `async def` program: its reads of the state are done at once, so it runs through, or waits for another's."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise TraceEnds("the program awaits something that is not its state's")


def _of_error(error: Exception) -> str:
    """Its text may be, or hold, a placeholder, which refuses what any other text allows."""
    try:
        lines = str.splitlines(str(error))
    except (Exception, TraceEnds):
        lines = []
    return f"it raised {type(error).__name__}" + (f": {lines[0]}" if lines else "")


def _line_of(error: Exception, func: Callable[..., Any]) -> SourceLine:
    """The innermost line of the program's own file that the error passed through."""
    own = inspect.unwrap(func).__code__.co_filename
    found = SourceLine(own, inspect.unwrap(func).__code__.co_firstlineno)
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == own:
            found = SourceLine(own, step.tb_lineno)
        step = step.tb_next
    return found


class _Tracer:
    """One trace: the nodes so far, the placeholders, and whether it has ended."""

    def __init__(self, program: str, options: SamplingOptions) -> None:
        self.program = program
        self.placeholders = Placeholders()
        self.left_open: set[str] = set()
        self.nodes: list[GraphNode] = []
        self.branches: list[GraphBranch] = []
        self.ends: list[TraceEnds] = []  # the first is the trace's; the program may have caught it and gone on
        marks = {role: (self._format(f"{role} begin"), self._format(f"{role} end")) for role in _ROLES}
        self.model = ModelInfo("", 0, ChatFormat(self._format("bos"), self._format("default system"), marks))
        self.run = _TracedRun(options)
        self.root = TracedBranch(self, None, None, ())

    def argument(self, name: str) -> str:
        self.left_open.add(name)
        return self.placeholders.text(Reference("argument", name, shown=f"argument {name!r}"))

    def add(self, make: Callable[[int], GraphNode]) -> GraphNode:
        self.check_open()
        node = make(len(self.nodes))
        self.nodes.append(node)
        return node

    def check_open(self) -> None:
        """Nothing is added after the end, and not without end."""
        if self.ends:
            raise self.ends[0].with_traceback(None)
        if len(self.nodes) >= MAX_NODES:
            raise TraceEnds(f"it has over {MAX_NODES:,} nodes")

    def graph(self, arguments: tuple[str, ...]) -> PrefixGraph:
        nodes = list(self.nodes)
        if self.ends:
            nodes.append(OpenNode(len(nodes), 0, self.ends[0].source, self.ends[0].reason))
        return PrefixGraph(self.program, arguments, tuple(self.branches), tuple(nodes))

    def _format(self, what: str) -> str:
        return self.placeholders.mark(Reference("format", what, shown=f"the {what} of the chat format"))


class _NoModel:
    """What a traced program runs on: anything may be asked of it, and nothing is."""

    capabilities = EVERYTHING


class _TracedRun(Run):
    """Nothing waits, nothing streams, and nothing can be cancelled."""

    def __init__(self, options: SamplingOptions) -> None:
        super().__init__(cast("Backend", _NoModel()), options, stream=False)

    def branches(self) -> list[Branch]:
        return []

    def cancel(self, why: str = "") -> None:
        raise TraceEnds("the program cancels itself")


class TracedBranch(Branch):
    """Takes the operations of one branch as they are submitted, and keeps each as nodes of the graph."""

    def __init__(self, tracer: _Tracer, parent: TracedBranch | None, fork: int | None, path: tuple[int, ...]) -> None:
        super().__init__(tracer.run)
        self.tracer, self.id, self.path = tracer, len(tracer.branches), path
        self.settled = True  # nobody has to end it
        if parent is not None:
            self.text, self.conversation = parent.text.copy(), parent.conversation.copy()
        self.fork_start = self.text.length
        tracer.branches.append(GraphBranch(self.id, parent.id if parent else None, fork, path))
        self._forks: list[TracedBranch] = []

    def child(self, node: Fork, index: int, keep_alive: object) -> TracedBranch:
        """The state makes the branches first and submits the fork then, whose node they name."""
        self.tracer.check_open()
        path = (*self.path, self.num_nodes + 1, index)
        child = TracedBranch(self.tracer, self, len(self.tracer.nodes), path)
        self._forks.append(child)
        return child

    def joined(self, children: list[Branch], source: SourceLine) -> None:
        ids = [child.id for child in children if isinstance(child, TracedBranch)]
        ends = tuple(end for end in map(self._last_output, ids) if end is not None)
        self.tracer.add(lambda id: JoinNode(id, self.id, source, tuple(ids), ends))

    def cancel(self, why: str) -> None:
        return None

    def submit(self, operation: str | Operation, *, start: bool = True) -> None:
        if isinstance(operation, str):
            self._write(str.__str__(operation), caller_line())  # plain: a traced text refuses to be measured
        elif isinstance(operation, Finish):
            operation.set()
        elif isinstance(operation, Read):
            operation.set(self.tracer.placeholders.traced(operation.look(self)))
        else:
            self.tracer.check_open()
            _take(self, operation)

    ask = submit

    # ---- what was submitted

    def _write(self, text: str, source: SourceLine) -> None:
        self.text.add_constant(text)
        self._keep_text(text, source)

    def _keep_text(self, text: str, source: SourceLine, *, as_tokens: bool = False) -> None:
        """The text's pieces as nodes; what the chat format adds is the role nodes' own."""
        for piece in self.tracer.placeholders.pieces(text):
            self.tracer.add(lambda id, piece=piece: self._node_of(id, piece, source, as_tokens))  # type: ignore[misc]

    def _node_of(self, id: int, piece: str | Reference, source: SourceLine, as_tokens: bool) -> GraphNode:
        if isinstance(piece, str):
            return TextNode(id, self.id, source, piece)
        if piece.kind == "argument":
            return ArgumentNode(id, self.id, source, str(piece.what))
        if piece.kind == "format":
            raise TraceEnds("it writes the text of a chat format a second time")
        if as_tokens and piece.output == 0:
            return OutputNode(id, self.id, source, int(piece.what))
        return VariableNode(id, self.id, source, int(piece.what), piece.output)

    def take_role(self, operation: Role) -> None:
        node = operation.node
        if isinstance(node, RoleBegin):
            self.conversation.begin(node, self.text, self.tracer.model)
            self.tracer.add(lambda id: RoleBeginNode(id, self.id, node.source, node.role))
        else:
            self.conversation.end(node, self.text, self.tracer.model)
            self.tracer.add(lambda id: RoleEndNode(id, self.id, node.source, node.role))

    def take_gen(self, operation: Generate) -> None:
        node, options = operation.node, operation.node.options
        texts = [text for name in CONSTRAINTS if (text := getattr(options, name)) is not None]
        texts += [node.name] if node.name is not None else []
        self._refuse_unknown(node, [*texts, *(options.stop or ()), *(options.stop_regex or ())])
        index = self._next_index()
        made = self.tracer.add(
            lambda id: GenNode(id, self.id, node.source, node.name, index, node.options, node.extra_stops)
        )
        if node.reasoning is not None:
            raise TraceEnds(f"the thoughts of {node.label} are told from its answer", node.source)
        num_outputs = options.over(self.run.options).n or 1
        outputs = [self._output(made.id, node, k) for k in range(num_outputs)]
        self.text.add_generated(str.__str__(outputs[0]), None)
        value: Any = outputs[0] if num_outputs == 1 else outputs
        if node.value_type is not None:
            operation.slot.reader = None  # a placeholder is no JSON
            value = TracedValue(f"the value of {node.label}")
        self._deliver(operation.slot, node, value)

    def take_select(self, operation: Choose) -> None:
        node = operation.node
        self._refuse_unknown(node, [*node.choices, *([node.name] if node.name is not None else [])])
        index = self._next_index()
        method = node.method.name
        made = self.tracer.add(
            lambda id: SelectNode(
                id, self.id, node.source, node.name, index, node.choices, node.temperature, method, node.seed
            )
        )
        output = self._output(made.id, node, 0)
        self.text.add_generated(str.__str__(output), None)
        self._deliver(operation.slot, node, output)

    def take_fork(self, operation: ForkOff) -> None:
        index = self._next_index()
        children, self._forks = self._forks, []
        source = operation.node.source
        self.tracer.add(lambda id: ForkNode(id, self.id, source, index, tuple(child.id for child in children)))

    def take_append(self, operation: Append) -> None:
        source = operation.node.source if operation.node is not None else caller_line()
        for segment in operation.written.segments:
            self._keep_text(segment.text, source, as_tokens=not segment.constant)
        self.text.add_segments(operation.written.segments)
        self.conversation.messages += operation.written.messages

    def take_scope_begin(self, operation: ScopeBegin) -> None:
        operation.perform(self)

    def take_scope_end(self, operation: ScopeEnd) -> None:
        text = self.text.text(operation.begin.start)
        operation.slot.meta = {}
        operation.slot.set(self.tracer.placeholders.traced(text))

    def _refuse_unknown(self, node: Node, texts: list[str]) -> None:
        """What a node asks for must be known before it runs; only the text before it may come from a model."""
        if any(map(self.tracer.placeholders.holds_marks, texts)):
            label = self.tracer.placeholders.shown(node.label)
            raise TraceEnds(f"what {label} asks for depends on what a run will generate", node.source)

    def _deliver(self, slot: Slot, node: Node, value: Any) -> None:
        slot.meta = TracedValue(f"what is known of {node.label}")  # type: ignore[assignment]  # looking into it ends the trace
        slot.set(value)

    def _output(self, id: int, node: Node, output: int) -> str:
        return self.tracer.placeholders.text(Reference("output", id, output, shown=node.label))

    def _next_index(self) -> int:
        index = self.num_nodes
        self.num_nodes += 1
        return index

    def _last_output(self, branch: int) -> int | None:
        found = [node.id for node in self.tracer.nodes if node.branch == branch and node.kind in ("gen", "select")]
        return found[-1] if found else None


_TAKES: dict[type[Any], Callable[[TracedBranch, Any], None]] = {
    Role: TracedBranch.take_role,
    Generate: TracedBranch.take_gen,
    Choose: TracedBranch.take_select,
    ForkOff: TracedBranch.take_fork,
    Append: TracedBranch.take_append,
    ScopeBegin: TracedBranch.take_scope_begin,
    ScopeEnd: TracedBranch.take_scope_end,
}


def _take(branch: TracedBranch, operation: Operation) -> None:
    take = _TAKES.get(type(operation))
    if take is None:
        label = operation.node.label if operation.node is not None else "this"
        raise TraceEnds(f"{label} can't be foreseen")
    take(branch, operation)
