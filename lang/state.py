"""The `s` of a program: append to it, give its text roles, fork it and join the branches.

Here: ProgramState and ForkGroup.  Not here: reading (reading), running operations (executor).
One thread at a time: the one that runs the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NoReturn, overload

from .beam_search import best_of
from .capabilities import check_node, check_text
from .chat import RoleTracker
from .errors import ArgumentError, BranchErrors, GenerationError, StateClosed
from .executor import Branch, Run, Slot
from .nodes import (
    Concat,
    Fork,
    Gen,
    Node,
    RoleBegin,
    RoleEnd,
    Select,
    SourceLine,
    Text,
    caller_line,
    checked_text,
    flatten,
)
from .operations import Append, Choose, ForkOff, Generate, Role, ScopeBegin, ScopeEnd, Written
from .reading import Shared, StateReader
from .reasoning import reasoning_name
from .typed_values import TypedReader
from .waiting import Promise

__all__ = ["ForkGroup", "ProgramState"]


class ProgramState(StateReader):
    """What a program has written, and its variables.

    `s += text or node` returns at once; `s["name"]` waits for that variable only."""

    @classmethod
    def root(cls, run: Run) -> ProgramState:
        return cls(Shared(Branch(run), {}, RoleTracker()))

    # ---- adding

    def __iadd__(self, item: object) -> ProgramState:
        self._check_open()
        if isinstance(item, str):
            self._write(checked_text(item))
        elif isinstance(item, ProgramState):
            self._append_state(item)
        elif isinstance(item, Concat):
            for node in item.nodes:
                self._submit(node)
        elif isinstance(item, Node):
            self._submit(item)
        else:
            for node in flatten(item, caller_line()):
                self._submit(node)
        return self

    def __add__(self, other: object) -> NoReturn:
        raise ArgumentError(f"a program's state is added to in place: write s += ... (at {caller_line()})")

    def __setitem__(self, name: str, value: Any) -> None:
        self._new_slot(name).set_constant(value)

    set_var = __setitem__

    @contextmanager
    def var_scope(self, name: str) -> Iterator[ProgramState]:
        """The variable `name` becomes all text added inside the block."""
        self._check_open()
        begin = ScopeBegin()
        self._shared.branch.submit(begin, start=False)
        try:
            yield self
        finally:
            self._shared.branch.submit(ScopeEnd(begin, self._new_slot(name)))

    def _check_open(self) -> None:
        why = self._shared.closed or self._shared.branch.run.over
        if why is not None:
            raise StateClosed(f"nothing can be added at {caller_line()}: {why}")

    def _write(self, text: str) -> None:
        """Text waits for the next operation to take it along, unless somebody reads along."""
        branch = self._shared.branch
        if branch.run.limits is not None:
            check_text(text, caller_line(), branch.run.limits, self._shared.roles)
            self._shared.roles.has_content |= bool(text)
        self._shared.roles.text()
        branch.submit(text, start=branch.run.stream)

    def _submit(self, node: Node) -> None:
        shared, run = self._shared, self._shared.branch.run
        if run.limits is not None:
            check_node(node, run.limits, run.options, shared.roles)
            shared.roles.has_content |= isinstance(node, (Gen, Select))
        if isinstance(node, Text):
            self._write(node.text)
        elif isinstance(node, Gen):
            shared.roles.generate(node)
            slot = self._new_slot(node.name)
            if node.value_type is not None:
                slot.reader = TypedReader(node)
            thoughts = None
            if node.reasoning is not None and node.name is not None:
                thoughts = self._new_slot(reasoning_name(node.name))
            shared.branch.submit(Generate(node, slot, thoughts))
        elif isinstance(node, Select):
            shared.roles.generate(node)
            shared.branch.submit(Choose(node, self._new_slot(node.name)))
        elif isinstance(node, RoleBegin):
            shared.roles.begin(node.role, node.source)
            shared.branch.submit(Role(node), start=shared.branch.run.stream)
        elif isinstance(node, RoleEnd):
            shared.roles.end(node.role, node.source)
            shared.branch.submit(Role(node), start=shared.branch.run.stream)
        else:
            raise ArgumentError(f"{node.label} can't be added to a program at {caller_line()}")

    def _new_slot(self, name: str | None) -> Slot:
        """The variable exists from here on, and who reads it waits.  Unnamed ones get distinct names, so none
        replaces another."""
        if name is None:
            self._shared.num_unnamed += 1
            name = f"#{self._shared.num_unnamed}"
        branch = self._shared.branch
        slot = Slot(stream=branch.run.stream)
        self._shared.slots[name] = slot
        events = branch.run.events
        if events is not None:
            shown = None if name.startswith("#") else name
            slot.add_callback(lambda: events.done(branch.path, shown, slot))
        return slot

    def _append_state(self, other: ProgramState) -> None:
        """Another program's text and variables, as if it had run here; what its conversation opens with stays
        behind."""
        source = caller_line()
        if other._shared.branch is self._shared.branch:
            raise ArgumentError(f"a state can't be added to itself (at {source})")
        if self._shared.descends_from(other._shared):
            raise ArgumentError(
                f"a branch can't add the state that it was forked from: it begins with that text (at {source})"
            )
        written = other.written(lambda branch: branch.conversation.opening_length)
        self._check_append(written, source)
        self._shared.branch.submit(Append(written, Text(source, "")))
        self._shared.slots.update(
            {name: slot for name, slot in other._shared.slots.items() if not name.startswith("#")}
        )

    def _check_append(self, written: Written, source: SourceLine) -> None:
        """Text that other branches wrote, without messages of its own, is text like any other."""
        limits = self._shared.branch.run.limits
        if limits is not None and not written.messages:
            text = "".join(segment.text for segment in written.segments)
            check_text(text, source, limits, self._shared.roles)
            self._shared.roles.has_content |= bool(text)

    def written(self, start: Callable[[Branch], int]) -> Written:
        """What this state has written from character `start` on, once it is."""
        found: Written = self._read(
            lambda branch: Written(branch.text.segments(start(branch)), tuple(branch.conversation.messages))
        )
        return found

    # ---- roles

    @overload
    def system(self, expr: None = None) -> AbstractContextManager[None]: ...
    @overload
    def system(self, expr: object) -> Concat: ...
    def system(self, expr: object = None) -> AbstractContextManager[None] | Concat:
        """`with s.system(): s += ...`, or s.system("...") as one message; so for user and assistant."""
        return self._role("system", expr)

    @overload
    def user(self, expr: None = None) -> AbstractContextManager[None]: ...
    @overload
    def user(self, expr: object) -> Concat: ...
    def user(self, expr: object = None) -> AbstractContextManager[None] | Concat:
        return self._role("user", expr)

    @overload
    def assistant(self, expr: None = None) -> AbstractContextManager[None]: ...
    @overload
    def assistant(self, expr: object) -> Concat: ...
    def assistant(self, expr: object = None) -> AbstractContextManager[None] | Concat:
        return self._role("assistant", expr)

    def _role(self, role: str, expr: object) -> AbstractContextManager[None] | Concat:
        source = caller_line()
        if expr is None:
            return self._role_block(role, source)
        message = Concat.of((RoleBegin(source, role), expr, RoleEnd(source, role)), source)
        self.__iadd__(message)
        return message

    @contextmanager
    def _role_block(self, role: str, source: SourceLine) -> Iterator[None]:
        self.__iadd__(RoleBegin(source, role))
        try:
            yield
        except BaseException:  # a program that catches it goes on after the message, whatever became of it
            shared = self._shared
            if shared.closed is None and (shared.roles.role, shared.roles.opened_at) == (role, source):
                self._submit(RoleEnd(source, role))
            raise
        self.__iadd__(RoleEnd(source, role))

    # ---- branches

    def fork(self, size: int = 1, position_ids_offset: object = None) -> ForkGroup:
        """`size` branches that share everything before them.  position_ids_offset is SGLang's, and has no effect here
        or there."""
        source = caller_line()
        if not _is_count(size):
            raise ArgumentError(f"fork: got {size!r} branches, wanted 1 or more (at {source})")
        self._check_open()
        shared = self._shared
        node = Fork(source, size)
        branches = [shared.branch.child(node, index, keep_alive=shared) for index in range(size)]
        shared.branch.submit(ForkOff(node, branches))
        states = [ProgramState(shared.of_child(branch)) for branch in branches]
        return ForkGroup(self, states, source)

    @contextmanager
    def copy(self, position_ids_offset: object = None) -> Iterator[ProgramState]:
        """A branch of its own for the length of the block; what it defines is then here too, as lists of one (as in
        SGLang)."""
        group = self.fork(1)
        state = group[0]
        try:
            yield state
        except BaseException:
            group.abandon("its block was left by an exception")
            raise
        group.join()

    def best_of(
        self,
        n: int,
        name: str,
        *,
        score: Callable[[ProgramState], Any] | None = None,
        good_enough: float | None = None,
        **options: Any,
    ) -> float:
        """Generate `name` n times, in branches of their own, and go on with the best; returns its score.

        score        gets a copy of each branch and returns a number, the higher the better: a function, such as
                     lambda b: len(b["answer"]), or a program that judges by asking the model there.  None: the mean
                     log-probability of the output's tokens
        good_enough  the first one with a score that high wins, and the others are cancelled where they are
        options      of the gen: max_tokens, type, ...; a seed is that of the first, and the next one's is one more

            @ft.function
            def judge(s):
                s += "\\nIs this joke funny? " + ft.select("funny", ["yes", "no"])
                return s.get_meta_info("funny")["probabilities"][0]

            s += "Tell me a joke. "
            s.best_of(4, "joke", score=judge, max_tokens=60)"""
        return best_of(self, n, name, score, good_enough, options)


class ForkGroup:
    """The branches of one fork, in order."""

    def __init__(self, parent: ProgramState, states: list[ProgramState], source: SourceLine) -> None:
        self.src_state, self.states, self.source = parent, states, source
        self._slots_at_fork = dict(parent._shared.slots)
        self._joined_at: SourceLine | None = None

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: int) -> ProgramState:
        return self.states[index]

    def __setitem__(self, index: int, state: ProgramState) -> None:
        """For `forks[i] += ...`, which assigns what it added to."""
        if state is not self.states[index]:
            raise ArgumentError(f"a branch of a fork can't be replaced (at {caller_line()})")

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self.states)

    def __iadd__(self, item: object) -> ForkGroup:
        """A node or text goes to every branch, a list gives each branch its own, a function is called with each
        branch's index."""
        if isinstance(item, (list, tuple)):
            if len(item) != len(self.states):
                raise ArgumentError(f"got {len(item)} items for {len(self.states)} branches at {caller_line()}")
            items = list(item)
        elif callable(item):
            items = [item(index) for index in range(len(self.states))]
        else:
            items = [item] * len(self.states)
        for state, each in zip(self.states, items, strict=True):
            state.__iadd__(each)
        return self

    def join(self, mode: Literal["gather_variable", "concate_and_append"] = "gather_variable") -> None:
        """Wait for all branches and bring back what they made.

        gather_variable     every variable that a branch defined, or defined anew, since the fork becomes the list of
                            the branches' values, in order; None stands for a branch that did not define it
        concate_and_append  the text of all branches is appended to the parent's
        Raises BranchErrors with the error of every branch that failed; the parent is then as it was, and can go on."""
        for promise in self._ends(mode):
            self.src_state._until_done(promise)
        self._bring_back(mode)

    def abandon(self, why: str) -> None:
        """Nobody will join or add to these branches."""
        for state in self.states:
            state._shared.closed = why
            state._shared.branch.cancel(why)

    def _ends(self, mode: str) -> list[Promise]:
        """What a join waits for: the end of every branch."""
        source = caller_line()
        if self._joined_at is not None:
            raise StateClosed(f"join at {source}: the branches of this fork were joined at {self._joined_at} already")
        if mode not in ("gather_variable", "concate_and_append"):
            raise ArgumentError(f"join: got mode {mode!r}, wanted gather_variable or concate_and_append (at {source})")
        self._joined_at = source
        return [state._shared.end(f"this branch was joined at {source}") for state in self.states]

    def _bring_back(self, mode: str) -> None:
        """What the branches made, now that they have ended."""
        assert self._joined_at is not None
        self._raise_failures()
        self.src_state._shared.branch.joined([state._shared.branch for state in self.states], self._joined_at)
        if mode == "gather_variable":
            self._gather()
            return
        for state in self.states:
            written = Written(state.written(lambda branch: branch.fork_start).segments, ())
            self.src_state._check_append(written, self._joined_at)
            self.src_state._shared.branch.submit(Append(written, Text(self._joined_at, "")))

    def _raise_failures(self) -> None:
        failed: dict[int, BaseException] = {}
        for index, state in enumerate(self.states):
            if state._shared.branch.error is not None:
                failed[index] = state._shared.branch.error
                state._shared.branch.error_seen = True
        if not failed:
            return
        of_parent = self.src_state._shared.branch.error
        if of_parent is not None and all(error is of_parent for error in failed.values()):
            self.src_state._raise(of_parent)  # the branches never started: it is the parent that failed
        raise BranchErrors(failed, len(self.states), self.source)

    def _gather(self) -> None:
        of_branches = [
            {
                name: slot
                for name, slot in state._shared.slots.items()
                if slot is not self._slots_at_fork.get(name) and not name.startswith("#")
            }
            for state in self.states
        ]
        values: list[dict[str, Any]] = []
        failed: dict[int, BaseException] = {}
        for index, slots in enumerate(of_branches):
            try:
                values.append({name: slot.result() for name, slot in slots.items()})
            except GenerationError as error:  # a typed output that is no value of its type
                failed[index] = error
        if failed:
            raise BranchErrors(failed, len(self.states), self.source)
        for name in dict.fromkeys(name for slots in of_branches for name in slots):
            found = [slots.get(name) for slots in of_branches]
            gathered = self.src_state._new_slot(name)
            gathered.meta = {"branches": [slot.meta if slot is not None else None for slot in found]}
            gathered.set_constant([each.get(name) for each in values])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
