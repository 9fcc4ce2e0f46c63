"""Roles -> text, by the model's own chat format; and the messages of a conversation as a list.

Here: Conversation, which knows the open role and what it adds before and after.  Not here: parsing templates (the
runtime derives ChatFormat). One owner: the branch, on the loop."""

from __future__ import annotations

from .backends.protocol import ChatFormat, ModelInfo
from .errors import RoleError
from .nodes import Node, RoleBegin, RoleEnd, SourceLine
from .prompt import BranchText

__all__ = ["Conversation", "RoleTracker", "end_of_turn", "opening_of"]


class RoleTracker:
    """Which role is open where the user's code stands: roles that don't nest are an error at the line that opens or
    closes them."""

    __slots__ = ("closed", "has_content", "opened_at", "role")

    def __init__(self, role: str | None = None, opened_at: SourceLine | None = None, has_content: bool = False) -> None:
        self.role, self.opened_at, self.has_content = role, opened_at, has_content
        self.closed: tuple[str, SourceLine] | None = None  # the message that ends right here, and where it was closed

    def begin(self, role: str, source: SourceLine) -> None:
        if self.role is not None:
            raise RoleError(
                f"{role}_begin() at {source}: the {self.role} role opened at {self.opened_at} is still open"
            )
        self.role, self.opened_at, self.has_content, self.closed = role, source, False, None

    def end(self, role: str, source: SourceLine) -> None:
        if self.role != role:
            is_open = f"the open role is {self.role}, opened at {self.opened_at}" if self.role else "no role is open"
            raise RoleError(f"{role}_end() at {source}: {is_open}")
        self.role = self.opened_at = None
        self.closed = (role, source)

    def text(self) -> None:
        """Text was written: whatever follows, the program says itself where it stands."""
        self.closed = None

    def generate(self, node: Node) -> None:
        """A chat template knows no place between messages at which a model could speak."""
        if self.closed is not None:
            role, source = self.closed
            raise RoleError(
                f"{node.label} at {node.source} stands between messages, right after the {role} message closed at "
                f"{source}: give it a role of its own, s += ft.assistant({node.label.partition('(')[0]}(...))"
            )

    def program_ends(self, program: str) -> None:
        if self.role is not None:
            raise RoleError(
                f"{self.role}_begin() at {self.opened_at}: the role is still open where program {program!r} ends; "
                f"close it with {self.role}_end()"
            )

    def copy(self) -> RoleTracker:
        other = RoleTracker(self.role, self.opened_at, self.has_content)
        other.closed = self.closed
        return other


class Conversation:
    """The messages of one branch and its open role, if any."""

    __slots__ = ("_content_start", "messages", "opening_length", "role")

    def __init__(self) -> None:
        self.messages: tuple[tuple[str, str], ...] = ()  # closed ones: role, content
        self.role: str | None = None
        self._content_start = 0  # in characters of the branch's text
        self.opening_length = 0  # characters before the first message that no message owns: bos, default system block

    def copy(self) -> Conversation:
        other = Conversation()
        other.messages, other.role = self.messages, self.role
        other._content_start, other.opening_length = self._content_start, self.opening_length
        return other

    def begin(self, node: RoleBegin, text: BranchText, model: ModelInfo) -> str:
        """Open a role; returns the text this adds, which includes what every conversation starts with."""
        role = node.role
        chat = _format_of(model, node)
        opening = ""
        if not self.messages:
            opening = opening_of(chat, role, at_the_start=text.length == 0)
            if text.length == 0:
                self.opening_length = len(opening)
        added = opening + chat.roles[role][0]
        text.add_constant(added)
        self.role, self._content_start = role, text.length
        return added

    def end(self, node: RoleEnd, text: BranchText, model: ModelInfo) -> str:
        """Close the open role; returns the text this adds.  A generated end-of-turn token is never part of the text,
        so the suffix, which begins with it, is there exactly once."""
        assert self.role is not None
        self.messages += ((self.role, text.text(self._content_start)),)
        suffix = _format_of(model, node).roles[self.role][1]
        text.add_constant(suffix)
        self.role = None
        return suffix

    def end_of_turn(self, model: ModelInfo | None) -> tuple[str, ...]:
        """Stop strings while the assistant speaks: the text that would close its turn, for models that spell it out."""
        return end_of_turn(self.role, model.chat_format if model is not None else None)

    def to_send(self, text: BranchText) -> tuple[tuple[str, str], ...]:
        """The messages for a backend that takes no text: closed ones, then what the open role has so far."""
        content = text.text(self._content_start) if self.role is not None else ""
        return (*self.messages, (self.role, content)) if self.role is not None and content else self.messages

    def as_list(self) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in self.messages]


def opening_of(chat: ChatFormat, role: str, *, at_the_start: bool) -> str:
    """What stands before the first message of a conversation; at_the_start: nothing stands before that."""
    return (chat.bos if at_the_start else "") + (chat.default_system if role != "system" else "")


def end_of_turn(role: str | None, chat: ChatFormat | None) -> tuple[str, ...]:
    """Stop strings of a gen while `role` is open."""
    if role != "assistant" or chat is None:
        return ()
    suffix = chat.roles["assistant"][1].strip()
    return (suffix,) if suffix else ()


def _format_of(model: ModelInfo, node: RoleBegin | RoleEnd) -> ChatFormat:
    chat = model.chat_format
    if chat is None:
        raise RoleError(
            f"{node.label} at {node.source}: model {model.name!r} has no chat template, or one that can't be split "
            f"into roles. Write its prompt as plain text"
        )
    if node.role not in chat.roles:
        hint = "; put the instructions into the first user message" if node.role == "system" else ""
        raise RoleError(
            f"{node.label} at {node.source}: the chat template of model {model.name!r} has no {node.role} role, only "
            f"{', '.join(chat.roles)}{hint}"
        )
    return chat
