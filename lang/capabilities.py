"""A node that needs what its backend lacks is refused at the line that adds it, before anything is sent.

Here: check_node for one node, check_text for text outside of roles.  Not here: which backend can do what (backends).
Imported by the state, and by whoever holds a whole program against a backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from .backends.protocol import Capabilities, SamplingParams
from .chat import RoleTracker
from .errors import UnsupportedByBackend
from .nodes import Gen, Node, RoleBegin, Select, SourceLine, Text
from .options import SamplingOptions

__all__ = ["check_node", "check_text"]

_EVERYWHERE = frozenset({"max_new_tokens", "stop", "temperature"})
_NEUTRAL = {each.name: each.default for each in fields(SamplingParams) if each.name not in _EVERYWHERE}
_NEUTRAL |= {"logit_bias": {}, "return_logprob": False, "logprob_start_len": -1, "top_logprobs_num": 0}
_SHOWN = {"min_new_tokens": "min_tokens"}


def check_node(
    node: Node, capabilities: Capabilities, run_options: SamplingOptions, roles: RoleTracker | None = None
) -> None:
    """Raise UnsupportedByBackend if the backend can't do `node`.

    run_options  those of the run, under the node's own
    roles        where the node stands; None: only what the node says by itself is checked"""
    if isinstance(node, Gen):
        _check_gen(node, capabilities, run_options)
        if roles is not None:
            _check_place(node, capabilities, roles)
    elif isinstance(node, Select):
        if not capabilities.select:
            raise _refusal(node, capabilities, "log-probabilities of choices", "select")
        if node.method.needs_unconditional and not capabilities.unconditional_scores:
            raise _refusal(node, capabilities, f"{node.method.name}, which scores choices without context", "select")
    elif isinstance(node, RoleBegin) and not capabilities.roles:
        raise _refusal(node, capabilities, "roles", "roles")
    elif isinstance(node, Text) and roles is not None:
        check_text(node.text, node.source, capabilities, roles)


def check_text(text: str, source: SourceLine, capabilities: Capabilities, roles: RoleTracker) -> None:
    """Text belongs into a message where a backend takes only messages."""
    if text and not capabilities.free_text and roles.role is None:
        raise UnsupportedByBackend(
            f"the text {_beginning(text)} at {source} stands outside of any role, and {capabilities.name} takes "
            f"messages only: put it into user(...), system(...) or assistant(...)",
            "free_text",
        )


def _check_gen(node: Gen, capabilities: Capabilities, run_options: SamplingOptions) -> None:
    options = node.options.over(run_options)
    for name in _asked_for(options):
        if capabilities.options is not None and name not in capabilities.options:
            raise _refusal(node, capabilities, _SHOWN.get(name, name), name)
    stops = len(options.stop or ()) + len(node.extra_stops)
    if capabilities.max_stops is not None and stops > capabilities.max_stops:
        raise _refusal(node, capabilities, f"{stops} stop strings, and {capabilities.max_stops} is the most", "stop")
    top = options.top_logprobs_num or 0
    if capabilities.max_top_logprobs is not None and top > capabilities.max_top_logprobs:
        most = capabilities.max_top_logprobs
        raise _refusal(node, capabilities, f"top_logprobs_num={top}, and {most} is the most", "top_logprobs_num")


def _asked_for(options: SamplingOptions) -> Iterator[str]:
    """Options that change something and that not every backend has."""
    for name, value in options.__dict__.items():
        if value is not None and name in _NEUTRAL and value != _NEUTRAL[name]:
            yield name


def _check_place(node: Gen, capabilities: Capabilities, roles: RoleTracker) -> None:
    if capabilities.free_text:
        return
    if roles.role != "assistant":
        where = f"in the {roles.role} role opened at {roles.opened_at}" if roles.role else "outside of any role"
        raise UnsupportedByBackend(
            f"{node.label} at {node.source} stands {where}, and {capabilities.name} generates whole assistant "
            f"messages only: write assistant(gen(...))",
            "free_text",
        )
    if roles.has_content and not capabilities.continues_turn:
        raise _refusal(node, capabilities, "to go on from other content of its assistant message", "continues_turn")


def _refusal(node: Node, capabilities: Capabilities, what: str, about: str) -> UnsupportedByBackend:
    advice = capabilities.advice.get(about, "")
    return UnsupportedByBackend(
        f"{node.label} at {node.source} wants {what}: {capabilities.name} has no such thing"
        f"{'; ' + advice if advice else ''}",
        about,
    )


def _beginning(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
