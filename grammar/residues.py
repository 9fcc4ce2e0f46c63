"""Digits whose value is a whole multiple of something, read from the left: remainders, and digits still needed.

A state is (modulus, places, digits after the point so far or -1 before it, remainder): the value of the digits so far,
its point taken away, is `remainder` modulo `modulus`; value * 10**places is to be a multiple of `modulus`."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

State = tuple[int, int, int, int]


def is_multiple(state: State) -> bool:
    modulus, places, after_point, remainder = state
    return bool(remainder * 10 ** (places - max(0, after_point)) % modulus == 0)


def steps(state: State) -> list[tuple[bytes, State]]:
    """The state after each of the bytes that may follow."""
    modulus, places, after_point, remainder = state
    if after_point >= places:  # only zeros can follow
        return [(b"0", state)]
    result = [] if after_point >= 0 else [(b".", (modulus, places, 0, remainder))]
    position = after_point + 1 if after_point >= 0 else -1
    for digit in range(10):
        result.append((b"%d" % digit, (modulus, places, position, (remainder * 10 + digit) % modulus)))
    return result


@lru_cache(maxsize=4096)
def bytes_needed(state: State) -> int | None:
    """Bytes of a shortest way to a multiple; None where there is none."""
    modulus, places, after_point, remainder = state
    if is_multiple(state):
        return 0
    if after_point >= 0:
        for digits in range(1, places - after_point + 1):
            if _reaches(remainder, digits, _without_tens(modulus, places - after_point - digits)):
                return digits
        return None
    best: int | None = None
    for fraction in range(places + 1):
        divisor = _without_tens(modulus, places - fraction)
        digits, cost = fraction, 1 if fraction else 0
        while best is None or digits + cost < best:
            if _reaches(remainder, digits, divisor):
                best = digits + cost
                break
            digits += 1
    return best


def _reaches(remainder: int, digits: int, divisor: int) -> bool:
    """Whether some `digits` more digits make a multiple of the divisor."""
    power: int = 10**digits
    return -remainder * power % divisor < power


def _without_tens(modulus: int, tens: int) -> int:
    """x * 10**tens is a multiple of `modulus` exactly if x is one of the result."""
    return modulus // gcd(modulus, 10**tens)
