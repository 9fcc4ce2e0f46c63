"""Numbers as expressions over their digits: ranges, multiples, integers.  What may be asked of them: number_limits.py.

Where at most the sign is asked for, a number is written in any way that JSON has; if it must not be zero, its exponent
has up to two digits (1e-999 is read as zero).  Otherwise, and for integers, there are declared narrowings: plain
decimals without an exponent, and an integer has no other decimals than zeros (1.0 is one).
Canonical: exactly one spelling per value, without exponent, trailing zeros and -0."""

from __future__ import annotations

from fractions import Fraction

from .expressions import EMPTY, INFINITE, NOTHING, Expressions, byte_set
from .number_limits import (
    ANY_NUMBER,
    MAX_DIGITS,
    MAX_MODULUS,
    NumberLimits,
    exact,
    has_few_digits,
    modulus_of,
    places_of,
)

__all__ = [
    "ANY_NUMBER", "MAX_DIGITS", "MAX_MODULUS", "NumberLimits", "NumberWriter", "exact", "has_few_digits", "modulus_of",
]  # fmt: skip

MAX_LISTED = 1_000  # multiples within bounds
FEW_REMAINDERS = 100  # which are counted, however few multiples there are


class NumberWriter:
    """Expressions for numbers, in one store."""

    def __init__(self, expressions: Expressions) -> None:
        self._e = e = expressions
        self._digit = e.bytes_in(byte_set((0x30, 0x39)))
        self._digits = e.repeat(self._digit, 0)
        self._nonzero = e.bytes_in(byte_set((0x31, 0x39)))
        self._zeros = e.repeat(e.literal(b"0"), 0)
        self._whole = e.alternative((e.literal(b"0"), e.concat(self._nonzero, self._digits)))
        self._fraction = e.concat(e.literal(b"."), e.repeat(self._digit, 1))
        self._no_fraction = e.concat(e.literal(b".0"), self._zeros)
        self._minus = e.literal(b"-")
        self._known: dict[tuple[NumberLimits, bool], int] = e.remembered("numbers")

    def literal_text(self, limits: NumberLimits, canonical: bool = False) -> int:
        """JSON texts of the numbers within the limits; NOTHING if there is none.   canonical: one per number"""
        known = self._known.get((limits, canonical))
        if known is None:
            known = self._known[limits, canonical] = self._written(limits, canonical)
        return known

    def _written(self, limits: NumberLimits, canonical: bool) -> int:
        if limits.is_empty():
            return NOTHING
        if limits.only_sign and not canonical:
            return self._by_sign(limits)
        if limits.step is not None and modulus_of(limits.step, limits.integral)[0] > FEW_REMAINDERS:
            values = limits.few_values(MAX_LISTED)
            if values is not None:
                return self._listed(values, canonical)
        negative = limits.mirrored
        if canonical:  # no -0
            negative = negative.within(NumberLimits(low=Fraction(0), low_open=True))
        minus = self._e.concat(self._minus, self._magnitude(negative, canonical))
        return self._e.alternative((self._magnitude(limits, canonical), minus))

    # ---- any spelling -------------------------------------------------------------------------------------------

    def _by_sign(self, limits: NumberLimits) -> int:
        e = self._e
        with_zero = not (limits.low == 0 and limits.low_open) and not (limits.high == 0 and limits.high_open)
        digits = e.repeat(self._digit, 1, INFINITE if with_zero else 2)
        sign = e.optional(e.bytes_in(1 << ord("+") | 1 << ord("-")))
        exponent = e.optional(e.sequence(e.bytes_in(1 << ord("e") | 1 << ord("E")), sign, digits))
        mantissa = e.concat(self._whole, e.optional(self._fraction))
        zero = e.concat(e.literal(b"0"), e.optional(self._no_fraction))
        if not with_zero:
            mantissa = e.both((mantissa,), zero)
        positive = mantissa if limits.high is None else zero if with_zero else NOTHING
        negative = mantissa if limits.low is None else zero if with_zero else NOTHING
        return e.concat(e.alternative((positive, e.concat(self._minus, negative))), exponent)

    # ---- plain decimals -----------------------------------------------------------------------------------------

    def _listed(self, values: list[Fraction], canonical: bool) -> int:
        e = self._e
        if canonical:
            return e.words(map(_spelled, values))
        spelled = [s for v in values for s in ([b"0", b"-0"] if v == 0 else [_spelled(v)])]
        whole = e.concat(e.words(s for s in spelled if b"." not in s), e.optional(self._no_fraction))
        return e.alternative((whole, e.concat(e.words(s for s in spelled if b"." in s), self._zeros)))

    def _magnitude(self, limits: NumberLimits, canonical: bool) -> int:
        """Numbers within the limits that are written without a sign; NOTHING if there is none."""
        limits = limits.within(NumberLimits(low=Fraction(0)))
        if limits.is_empty():
            return NOTHING
        e, low, high, integer = self._e, limits.low, limits.high, limits.integral
        assert low is not None
        parts = [self._at_least(low, limits.low_open, integer=integer)]
        if high is not None:
            most = self._at_most(high, limits.high_open, integer=integer)
            parts = [most] if low == 0 and not limits.low_open else [*parts, most]
        if canonical and not integer:
            parts.append(e.concat(self._whole, e.optional(e.sequence(e.literal(b"."), self._digits, self._nonzero))))
        if limits.step not in (None, 1):
            parts.append(e.residue(*modulus_of(limits.step, integer)))
        without = [e.residue(*modulus_of(multiple, integer)) for multiple in limits.not_multiples]
        if limits.whole is False:
            without.append(e.residue(1, 0))
        # Integers get their decimals, all zeros, at the end.
        without.append(self._listed([v for v in limits.excluded if v >= 0], canonical or integer))
        result = e.both(parts, e.alternative(without))
        return e.concat(result, e.optional(self._no_fraction)) if integer and not canonical else result

    def _at_least(self, bound: Fraction, is_open: bool, *, integer: bool) -> int:
        e, whole = self._e, int(bound)
        if integer:
            return self._whole_at_least(whole if whole == bound and not is_open else whole + 1)
        if bound == 0 and not is_open:
            return e.concat(self._whole, e.optional(self._fraction))
        above = e.concat(self._whole_at_least(whole + 1), e.optional(self._fraction))
        digits = _fraction_digits(bound)
        rest = e.sequence(self._zeros, self._nonzero, self._digits) if is_open else self._digits
        for digit in reversed(digits):
            higher = e.concat(self._one_of(digit + 1, 0x39), self._digits)
            rest = e.alternative((e.concat(e.literal(bytes((digit,))), rest), higher))
        rest = e.concat(e.literal(b"."), rest)
        if not digits and not is_open:
            rest = e.optional(self._fraction)
        return e.alternative((above, e.concat(e.literal(b"%d" % whole), rest)))

    def _at_most(self, bound: Fraction, is_open: bool, *, integer: bool) -> int:
        e, whole = self._e, int(bound)
        if integer:
            return self._whole_at_most(whole - 1 if whole == bound and is_open else whole)
        below = e.concat(self._whole_at_most(whole - 1), e.optional(self._fraction))
        digits = _fraction_digits(bound)
        if digits:
            rest = NOTHING if is_open else self._zeros
            for i in range(len(digits) - 1, -1, -1):
                lower = e.concat(self._one_of(0x30, digits[i] - 1), self._digits)
                rest = e.alternative((e.concat(e.literal(digits[i : i + 1]), rest), lower, EMPTY if i else NOTHING))
            rest = e.optional(e.concat(e.literal(b"."), rest))
        else:
            rest = NOTHING if is_open else e.optional(self._no_fraction)
        return e.alternative((below, e.concat(e.literal(b"%d" % whole), rest)))

    def _whole_at_least(self, bound: int) -> int:
        e = self._e
        if bound == 0:
            return self._whole
        same, text = EMPTY, b"%d" % bound
        for length, digit in enumerate(reversed(text)):
            higher = e.concat(self._one_of(digit + 1, 0x39), e.repeat(self._digit, length, length))
            same = e.alternative((e.concat(e.literal(bytes((digit,))), same), higher))
        return e.alternative((same, e.sequence(self._nonzero, e.repeat(self._digit, len(text)))))

    def _whole_at_most(self, bound: int) -> int:
        e = self._e
        if bound <= 0:
            return e.literal(b"0") if bound == 0 else NOTHING
        same, text = EMPTY, b"%d" % bound
        for length, digit in enumerate(reversed(text)):
            first = 0x31 if length == len(text) - 1 else 0x30
            lower = e.concat(self._one_of(first, digit - 1), e.repeat(self._digit, length, length))
            same = e.alternative((e.concat(e.literal(bytes((digit,))), same), lower))
        shorter = e.concat(self._nonzero, e.repeat(self._digit, 0, len(text) - 2)) if len(text) > 1 else NOTHING
        return e.alternative((same, shorter, e.literal(b"0")))

    def _one_of(self, first: int, last: int) -> int:
        return self._e.bytes_in(byte_set((first, last))) if first <= last else NOTHING


def _fraction_digits(value: Fraction) -> bytes:
    """Digits after the point, no zeros at their end."""
    places = places_of(value)
    return b"%0*d" % (places, int((value - int(value)) * 10**places)) if places else b""


def _spelled(value: Fraction) -> bytes:
    """The canonical spelling."""
    digits = _fraction_digits(abs(value))
    sign = b"-" if value < 0 else b""
    return sign + b"%d" % int(abs(value)) + (b"." + digits if digits else b"")
