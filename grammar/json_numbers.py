"""Number ranges and multiples as expressions over the digits of a number.

Without bounds a number is written in any way that JSON has.  With bounds or multipleOf it is written in plain decimals,
without an exponent, and an integer always without fraction and exponent: one declared spelling.  Bounds and multiples
are exact: they are read as the decimals that the schema's JSON text shows, never as binary fractions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from .expressions import NOTHING, Expressions, byte_set

MAX_MODULUS = 100_000  # of multipleOf, as a whole number once the decimals are scaled away
MAX_DIGITS = 1_000  # of a bound


@dataclass(frozen=True)
class NumberLimits:
    """low, high: bounds, None where there is none; *_open: the bound itself is left out; multiples: of all of these."""

    low: Fraction | None = None
    low_open: bool = False
    high: Fraction | None = None
    high_open: bool = False
    multiples: tuple[Fraction, ...] = ()
    whole: bool | None = None  # True: integers only, False: no integers
    not_multiples: tuple[Fraction, ...] = ()
    excluded: frozenset[Fraction] = frozenset()

    def within(self, other: NumberLimits) -> NumberLimits:
        """Both limits at once."""
        low, low_open = self.low, self.low_open
        if other.low is not None and (low is None or (other.low, other.low_open) > (low, low_open)):
            low, low_open = other.low, other.low_open
        high, high_open = self.high, self.high_open
        if other.high is not None and (high is None or (-other.high, other.high_open) > (-high, high_open)):
            high, high_open = other.high, other.high_open
        multiples = tuple(dict.fromkeys((*self.multiples, *other.multiples)))
        whole = self.whole if other.whole is None else other.whole
        if self.whole is not None and other.whole is not None and self.whole != other.whole:
            return NumberLimits(Fraction(0), True, Fraction(0), True)
        return NumberLimits(
            low,
            low_open,
            high,
            high_open,
            multiples,
            whole,
            tuple(dict.fromkeys((*self.not_multiples, *other.not_multiples))),
            self.excluded | other.excluded,
        )

    def is_empty(self) -> bool:
        return self.empty_range

    def outside(self) -> list[NumberLimits]:
        pieces = []
        so_far = NumberLimits()
        if self.whole is not None:
            pieces.append(NumberLimits(whole=not self.whole))
            so_far = NumberLimits(whole=self.whole)
        if self.low is not None:
            pieces.append(so_far.within(NumberLimits(None, False, self.low, not self.low_open)))
        if self.high is not None:
            pieces.append(so_far.within(NumberLimits(self.high, not self.high_open)))
        so_far = so_far.within(NumberLimits(self.low, self.low_open, self.high, self.high_open))
        for multiple in self.multiples:
            pieces.append(so_far.within(NumberLimits(not_multiples=(multiple,))))
            so_far = so_far.within(NumberLimits(multiples=(multiple,)))
        return pieces

    def admit(self, value: Fraction) -> bool:
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is not None and (value > self.high or (self.high_open and value == self.high)):
            return False
        if (self.whole is not None and self.whole != (value.denominator == 1)) or value in self.excluded:
            return False
        return all((value / m).denominator == 1 for m in self.multiples) and not any(
            (value / m).denominator == 1 for m in self.not_multiples
        )

    @property
    def empty_range(self) -> bool:
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


def exact(value: int | float) -> Fraction:
    """The decimal that JSON text shows for the value: 0.1 is one tenth."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def has_few_digits(value: Fraction) -> bool:
    return abs(value) < 10**MAX_DIGITS and places_of(value) <= MAX_DIGITS


def places_of(value: Fraction) -> int:
    """Digits after the point; the value is a finite decimal."""
    places, denominator = 0, value.denominator
    while denominator % 10 == 0:
        places, denominator = places + 1, denominator // 10
    while denominator > 1:
        places, denominator = places + 1, denominator // (5 if denominator % 5 == 0 else 2)
    return places


def modulus_of(multiple: Fraction, integer: bool) -> tuple[int, int]:
    """(modulus, places): a value is a multiple iff value * 10**places is one of `modulus`."""
    places = places_of(multiple)
    modulus = int(multiple * 10**places)
    return (modulus // gcd(modulus, 10**places), 0) if integer else (modulus, places)


class NumberWriter:
    """Expressions for numbers, in one store."""

    def __init__(self, expressions: Expressions) -> None:
        self._e = expressions
        self._digit = expressions.bytes_in(byte_set((0x30, 0x39)))
        self._digits = expressions.repeat(self._digit, 0)
        self._nonzero = expressions.bytes_in(byte_set((0x31, 0x39)))
        self._point = expressions.literal(b".")
        self._zeros = expressions.repeat(expressions.literal(b"0"), 0)

    def number(self, limits: NumberLimits, *, integer: bool) -> int:
        """JSON texts of the numbers (or integers) within the limits; NOTHING if there is none."""
        e = self._e
        if limits == NumberLimits() and not integer:
            sign = e.optional(e.bytes_in(byte_set((0x2B, 0x2B), (0x2D, 0x2D))))
            exponent = e.sequence(e.bytes_in(1 << ord("e") | 1 << ord("E")), sign, self._digit, self._digits)
            plain = e.concat(self._at_least(Fraction(0), False, integer=False), e.optional(exponent))
            return e.concat(e.optional(e.literal(b"-")), plain)
        low, high = limits.low, limits.high
        results = []
        if high is None or high >= 0:
            results.append(self._magnitude(max(low or Fraction(0), Fraction(0)), low is not None and low >= 0
                                           and limits.low_open, high, limits.high_open, limits, integer))  # fmt: skip
        if low is None or low <= 0:
            least = max(-high, Fraction(0)) if high is not None else Fraction(0)
            least_open = high is not None and high <= 0 and limits.high_open
            most = -low if low is not None else None
            negative = self._magnitude(least, least_open, most, limits.low_open, limits, integer)
            results.append(e.concat(e.literal(b"-"), negative))
        return e.alternative(results)

    def literal_text(self, limits: NumberLimits, canonical: bool) -> int:
        from dataclasses import replace

        e = self._e
        plain = replace(limits, whole=None, not_multiples=(), excluded=frozenset())
        minus = [self.number(NumberLimits(v, False, v, False), integer=False) for v in limits.excluded]
        minus += [self.number(NumberLimits(multiples=(m,)), integer=False) for m in limits.not_multiples]
        ints = self.number(NumberLimits(), integer=True)
        whole = e.sequence(ints, e.optional(e.sequence(self._point, e.repeat(e.literal(b"0"), 1))))
        if limits.whole is False:
            minus.append(whole)
        simple = not limits.multiples and limits.low is None and limits.high is None
        if minus and simple:
            plain = replace(plain, multiples=())
            result = e.both(
                [e.sequence(ints, e.optional(e.sequence(self._point, e.repeat(self._digit, 1))))], e.alternative(minus)
            )
            if limits.whole:
                result = e.both([result, ints])
        else:
            result = self.number(plain, integer=limits.whole is True)
            if minus:
                result = e.both([result], e.alternative(minus))
        if canonical:
            canon = e.sequence(ints, e.optional(e.sequence(self._point, self._digits, self._nonzero)))
            result = e.both([result, canon], e.literal(b"-0"))
        return result

    def _magnitude(
        self, low: Fraction, low_open: bool, high: Fraction | None, high_open: bool, limits: NumberLimits, integer: bool
    ) -> int:
        """Numbers without sign between the bounds, low >= 0."""
        parts = [self._at_least(low, low_open, integer=integer)]
        if high is not None:
            most = self._at_most(high, high_open, integer=integer)
            parts = [most] if low == 0 and not low_open else [*parts, most]
        for multiple in limits.multiples:
            modulus, places = modulus_of(multiple, integer)
            if modulus > 1 or not integer:
                parts.append(self._e.residue(modulus, places))
        return self._e.both(parts)

    def _at_least(self, bound: Fraction, is_open: bool, *, integer: bool) -> int:
        e, whole = self._e, int(bound)
        if integer:
            return self._whole_at_least(whole if whole == bound and not is_open else whole + 1)
        fraction = e.concat(self._point, e.repeat(self._digit, 1))
        if bound == 0 and not is_open:
            return e.concat(self._whole_at_least(0), e.optional(fraction))
        above = e.concat(self._whole_at_least(whole + 1), e.optional(fraction))
        digits = _fraction_digits(bound)
        if digits:
            end = e.sequence(self._zeros, self._nonzero, self._digits) if is_open else self._digits
            options = [
                e.sequence(e.literal(digits[:i]), self._one_of(digits[i] + 1, 0x39), self._digits)
                for i in range(len(digits))
            ]
            rest = e.concat(self._point, e.alternative([*options, e.concat(e.literal(digits), end)]))
        elif is_open:
            rest = e.sequence(self._point, self._zeros, self._nonzero, self._digits)
        else:
            rest = e.optional(fraction)
        return e.alternative((above, e.concat(e.literal(b"%d" % whole), rest)))

    def _at_most(self, bound: Fraction, is_open: bool, *, integer: bool) -> int:
        e, whole = self._e, int(bound)
        if integer:
            return self._whole_at_most(whole - 1 if whole == bound and is_open else whole)
        fraction = e.concat(self._point, e.repeat(self._digit, 1))
        below = e.concat(self._whole_at_most(whole - 1), e.optional(fraction))
        digits = _fraction_digits(bound)
        if digits:
            options = [
                e.sequence(e.literal(digits[:i]), self._one_of(0x30, digits[i] - 1), self._digits)
                for i in range(len(digits))
            ]
            options += [e.literal(digits[:i]) for i in range(1, len(digits))]
            if not is_open:
                options.append(e.concat(e.literal(digits), self._zeros))
            rest = e.optional(e.concat(self._point, e.alternative(options)))
        else:
            rest = NOTHING if is_open else e.optional(e.sequence(self._point, e.literal(b"0"), self._zeros))
        return e.alternative((below, e.concat(e.literal(b"%d" % whole), rest)))

    def _whole_at_least(self, bound: int) -> int:
        e = self._e
        if bound == 0:
            return e.alternative((e.literal(b"0"), e.concat(self._nonzero, self._digits)))
        text = b"%d" % bound
        longer = e.sequence(self._nonzero, e.repeat(self._digit, len(text)))
        same = [self._then(text[:i], text[i] + 1, 0x39, len(text) - i - 1) for i in range(len(text))]
        return e.alternative([longer, *same, e.literal(text)])

    def _whole_at_most(self, bound: int) -> int:
        e = self._e
        if bound < 0:
            return NOTHING
        text = b"%d" % bound
        options = [e.literal(text), *([e.literal(b"0")] if bound else [])]
        if len(text) > 1:
            options.append(e.concat(self._nonzero, e.repeat(self._digit, 0, len(text) - 2)))
        options += [
            self._then(text[:i], 0x31 if i == 0 else 0x30, text[i] - 1, len(text) - i - 1) for i in range(len(text))
        ]
        return e.alternative(options)

    def _then(self, prefix: bytes, first: int, last: int, digits: int) -> int:
        e = self._e
        return e.sequence(e.literal(prefix), self._one_of(first, last), e.repeat(self._digit, digits, digits))

    def _one_of(self, first: int, last: int) -> int:
        return self._e.bytes_in(byte_set((first, last))) if first <= last else NOTHING


def _fraction_digits(value: Fraction) -> bytes:
    """Digits after the point, no zeros at their end."""
    places = places_of(value)
    return b"%0*d" % (places, int((value - int(value)) * 10**places)) if places else b""
