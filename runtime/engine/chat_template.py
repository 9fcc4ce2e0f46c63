"""Chat templates: messages -> text, and the text around each role where a template can be told apart like that.

Templates come with the model, never from a request; they run in Jinja's immutable sandbox.
Imported by the client and the engine; jinja2 only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import InvalidRequest
from .messages import ChatFormat

Messages = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """One model's template. Raises InvalidRequest(field="messages") where the template refuses what it is given."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._template = environment.from_string(source)
        self._bos, self._eos = bos, eos

    def render(self, messages: Messages, *, add_generation_prompt: bool = True, **variables: Any) -> str:
        names = {"bos_token": self._bos, "eos_token": self._eos, "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(messages=messages, **{**variables, **names})
        except TemplateError as error:
            raise InvalidRequest("messages", f"the model's chat template refuses them: {error}") from None
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidRequest("messages", f"the model's chat template can't render them: {error}") from None

    def chat_format(self) -> ChatFormat | None:
        """The template as text before and after each role's content; None if it is not of that form.

        Found by rendering marked messages, then proved on conversations of other shapes. A role that the template
        refuses or merges into another, as some do with "system", is left out."""
        try:
            found = self._derive()
            return found if found is not None and self._proves(found) else None
        except InvalidRequest:
            return None

    def _derive(self) -> ChatFormat | None:
        a, b, c = (f"<<mark-{letter}>>" for letter in "abc")
        talk = self.render([_say("user", a), _say("assistant", b), _say("user", c)], add_generation_prompt=False)
        if not _ordered(talk, a, b, c):
            return None
        before_a, a_to_b, b_to_c, user_suffix = _between(talk, a, b, c)
        opened = self.render([_say("user", a)])
        if not opened.startswith(before_a + a + user_suffix):
            return None
        assistant_prefix = opened[len(before_a + a + user_suffix) :]
        if a_to_b.rstrip() != (user_suffix + assistant_prefix).rstrip():
            return None
        closed = self.render([_say("user", a), _say("assistant", b)], add_generation_prompt=False)
        assistant_suffix = closed.partition(b)[2]
        user_prefix = b_to_c[len(assistant_suffix) :]
        if not (b_to_c.startswith(assistant_suffix) and before_a.endswith(user_prefix)):
            return None
        bos = self._bos if before_a.startswith(self._bos) else ""
        if user_prefix.startswith(bos):  # ChatML models call the mark that opens every message their BOS
            bos = ""
        default_system = before_a[len(bos) : len(before_a) - len(user_prefix)]
        roles = {"user": (user_prefix, user_suffix), "assistant": (assistant_prefix, assistant_suffix)}
        if (system := self._derive_system(bos, user_prefix)) is not None:
            roles["system"] = system
        return ChatFormat(bos, default_system, roles)

    def _derive_system(self, bos: str, user_prefix: str) -> tuple[str, str] | None:
        system, user = "<<mark-s>>", "<<mark-u>>"
        try:
            text = self.render([_say("system", system), _say("user", user)], add_generation_prompt=False)
        except InvalidRequest:
            return None
        if not _ordered(text, system, user):
            return None
        before, between, _ = _between(text, system, user)
        if not (before.startswith(bos) and between.endswith(user_prefix)) or before.startswith(bos + user_prefix):
            return None  # the last: merged into the user's message
        return before[len(bos) :], between[: len(between) - len(user_prefix)]

    def _proves(self, found: ChatFormat) -> bool:
        """Whether the format writes what the template does, but for blanks that a model puts before its answers."""
        talks = [["user"], ["user", "assistant", "user"], ["user", "assistant", "user", "assistant", "user"]]
        if "system" in found.roles:
            talks += [["system", *talk] for talk in talks]
        for roles in talks:
            messages = [_say(role, f"word {i} of {role}") for i, role in enumerate(roles)]
            expected = self.render(messages)
            ours = plain(found, messages) + found.roles["assistant"][0]
            same = "".join(expected.split()) == "".join(ours.split()) if "assistant" in roles else expected == ours
            if not same:
                return False
        return True


def plain(chat_format: ChatFormat, messages: Messages) -> str:
    """The messages as `chat_format` spells them, without a generation prompt."""
    text = chat_format.bos
    if messages and messages[0]["role"] != "system":
        text += chat_format.default_system
    for message in messages:
        before, after = chat_format.roles[message["role"]]
        text += before + message["content"] + after
    return text


def _say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _ordered(text: str, *marks: str) -> bool:
    return all(text.count(mark) == 1 for mark in marks) and sorted(marks, key=text.index) == list(marks)


def _between(text: str, *marks: str) -> list[str]:
    parts = []
    for mark in marks:
        part, _, text = text.partition(mark)
        parts.append(part)
    return [*parts, text]


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
