"""When traced requests run, and that the server announces nothing that it could not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forktree.runtime.request import IntArray
from forktree.runtime.scheduler.replay import End, Event, Expect, Retire, Start, TracedRequest
from forktree.runtime.scheduler.timeline import FIRST_GUESS_S, ServerModel, TracedProgram, timeline

ONE_SLOT = ServerModel(num_slots=1, prefill_s=0.5, token_s=0.25)


def run(first: int, num_tokens: int) -> IntArray:
    return np.arange(first, first + num_tokens, dtype=np.int32)


def agent(
    arrival_s: float = 0.0, *, pause_s: float = 3.0, planned: bool = True, announces: bool = True
) -> TracedProgram:
    """Two steps of 2 output tokens: prompts of 10 and 15 tokens, the first 4 of every instance."""
    first = TracedRequest(run(0, 12), 10, "first", 4)
    second = TracedRequest(run(0, 17), 15, "second", 12, (0,), pause_s, 0, planned)
    return TracedProgram("agent", arrival_s, (first, second), 4, announces)


def times(events: list[Event], kind: type[Start] | type[End]) -> list[float]:
    return [event.at_s for event in events if isinstance(event, kind)]


def said_of(events: list[Event], request: TracedRequest) -> list[tuple[float, int, float]]:
    """(when, how many tokens, for when) of each announcement."""
    return [
        (event.at_s, len(event.tokens), event.use_s)
        for event in events
        if isinstance(event, Expect) and event.request is request
    ]


def test_a_request_takes_prefill_and_decode_and_the_next_follows_after_its_pause() -> None:
    events = timeline([agent()], ONE_SLOT)
    assert times(events, Start) == [0, 4]
    assert times(events, End) == [1, 5]


def test_who_finds_no_slot_waits_in_order_of_arrival() -> None:
    events = timeline([agent(0, pause_s=0.25), agent(0.5, pause_s=9)], ONE_SLOT)
    assert times(events, Start) == [0, 1, 2, 11]
    assert times(timeline([agent(), agent()], ServerModel(2, 0.5, 0.25)), Start) == [0, 0, 4, 4]


def test_the_known_prefix_grows_as_the_program_goes_on() -> None:
    program = agent()
    said = said_of(timeline([program], ONE_SLOT), program.requests[1])
    assert said == [
        (0, 4, FIRST_GUESS_S + FIRST_GUESS_S),  # only the text of the program exists
        (1, 12, 1 + FIRST_GUESS_S),  # with the output
        (4, 15, 4),  # queued: the whole prompt, now
    ]


def test_what_is_not_planned_is_announced_once_the_step_before_has_ended() -> None:
    program = agent(planned=False)
    assert [at for at, _, _ in said_of(timeline([program], ONE_SLOT), program.requests[1])] == [1, 4]


def test_of_a_plain_client_nothing_is_known_but_what_waits() -> None:
    program = agent(announces=False)
    events = timeline([program], ONE_SLOT)
    assert said_of(events, program.requests[1]) == [(4, 15, 4)]
    assert not any(isinstance(event, Retire) for event in events)


def test_what_nothing_goes_on_from_is_retired_when_it_ends() -> None:
    program = agent()
    retired = [event for event in timeline([program], ONE_SLOT) if isinstance(event, Retire)]
    assert [(event.at_s, len(event.tokens), event.num_shared) for event in retired] == [(5, 17, 4)]


def test_pauses_are_guessed_from_those_seen_before_unless_they_are_said_to_be_known() -> None:
    programs = [agent(0, pause_s=3), agent(10, pause_s=30)]
    late = programs[1].requests[1]
    guessed, known = (timeline(programs, ONE_SLOT, pauses_known=known) for known in (False, True))
    assert [said for said in said_of(guessed, late) if said[1] == 12] == [(11, 12, 11 + 3)]
    assert [said for said in said_of(known, late) if said[1] == 12] == [(11, 12, 11 + 30)]
    assert times(guessed, Start) == times(known, Start)


def test_what_happens_later_changes_nothing_that_was_said_before() -> None:
    """The same programs but for the second one's pause and output, which are known from 12 s on."""
    programs = [agent(0), agent(10)]
    first, second = programs[1].requests
    other = replace(second, pause_s=40.0, tokens=np.append(second.tokens[:12], run(500, 30)), num_prompt=20)
    changed = [programs[0], replace(programs[1], requests=(first, other))]

    def said(programs: list[TracedProgram]) -> list[tuple[object, ...]]:
        return [
            (type(event).__name__, event.at_s, event.tokens.tolist(), event.use_s if isinstance(event, Expect) else 0)
            for event in timeline(programs, ONE_SLOT)
            if event.at_s < 12 and isinstance(event, Expect | Retire)
        ]

    assert said(programs) == said(changed)
    assert len(said(programs)) > 6
