"""What may be asked of a number, exactly: bounds, multiples, whole or not; its intersection, complement and emptiness.

Values are decimals as a schema's JSON text shows them, never binary fractions.  Not here: how numbers are written
(json_numbers.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, gcd, lcm

from .errors import GrammarTooComplex

MAX_MODULUS = 10**18  # of multipleOf, as a whole number once the decimals are scaled away
MAX_DIGITS = 1_000  # of a bound
MAX_TRIED = 100_000  # values looked at before a range is said to hold none


@dataclass(frozen=True)
class NumberLimits:
    """All of these hold.

    low, high      bounds, None where there is none; *_open: the bound itself is left out
    multiples      of all of these                 not_multiples   of none of these
    whole          True: an integer (1.0 is one), False: none      excluded        values that are not meant
    """

    low: Fraction | None = None
    low_open: bool = False
    high: Fraction | None = None
    high_open: bool = False
    multiples: tuple[Fraction, ...] = ()
    whole: bool | None = None
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
        multiples, not_multiples = (*self.multiples, *other.multiples), (*self.not_multiples, *other.not_multiples)
        whole = other.whole if self.whole is None else self.whole
        if other.whole not in (None, whole):
            multiples = (*multiples, Fraction(1))  # an integer that is none
            whole = False
        return NumberLimits(
            low,
            low_open,
            high,
            high_open,
            tuple(dict.fromkeys(multiples)),
            whole,
            tuple(dict.fromkeys(not_multiples)),
            self.excluded | other.excluded,
        )

    def outside(self) -> list[NumberLimits]:
        """Limits one of which holds exactly where these do not."""
        pieces = [NumberLimits(not_multiples=(m,)) for m in self.multiples]
        pieces += [NumberLimits(multiples=(m,)) for m in self.not_multiples]
        pieces += [NumberLimits(low=v, high=v) for v in sorted(self.excluded)]
        if self.low is not None:
            pieces.append(NumberLimits(high=self.low, high_open=not self.low_open))
        if self.high is not None:
            pieces.append(NumberLimits(low=self.high, low_open=not self.high_open))
        if self.whole is not None:
            pieces.append(NumberLimits(whole=not self.whole))
        return pieces

    def admit(self, value: Fraction) -> bool:
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is not None and (value > self.high or (self.high_open and value == self.high)):
            return False
        if self.whole is not None and self.whole != (value.denominator == 1):
            return False
        if value in self.excluded or any((value / m).denominator == 1 for m in self.not_multiples):
            return False
        return all((value / m).denominator == 1 for m in self.multiples)

    def is_empty(self) -> bool:
        """Whether no value is within the limits."""
        if self.empty_range:
            return True
        step = self.step
        if self.low is not None and self.low == self.high:
            return not self.admit(self.low)
        if step is None:
            return False  # what is left out are points, and a range of decimals has others between any two
        if self.whole is False and step.denominator == 1:
            return True
        if any((step / m).denominator == 1 for m in self.not_multiples):
            return True
        if self.low is None or self.high is None:
            return False  # beyond all excluded values, `step` times something prime to all others is left
        first, last = ceil(self.low / step), floor(self.high / step)
        for tried, k in enumerate(range(first, last + 1)):
            if self.admit(k * step):
                return False
            if tried > MAX_TRIED:
                raise GrammarTooComplex("leaves no number that could be found", place="multipleOf")
        return True

    @property
    def step(self) -> Fraction | None:
        """Values are exactly the whole multiples of this one that are within the other limits; None: all decimals."""
        steps = [*self.multiples, *([Fraction(1)] if self.whole else [])]
        if not steps:
            return None
        return Fraction(lcm(*(s.numerator for s in steps)), gcd(*(s.denominator for s in steps)))

    @property
    def mirrored(self) -> NumberLimits:
        """The limits of -x where x is within these."""
        return replace(
            self,
            low=None if self.high is None else -self.high,
            low_open=self.high_open,
            high=None if self.low is None else -self.low,
            high_open=self.low_open,
            excluded=frozenset(-v for v in self.excluded),
        )

    @property
    def integral(self) -> bool:
        """Whether only integers are within the limits, as far as whole and multiples tell."""
        return self.step is not None and self.step.denominator == 1

    @property
    def only_sign(self) -> bool:
        """Whether at most the sign is asked for, so that exponents are of no matter."""
        plain = self.low in (None, 0) and self.high in (None, 0)
        return plain and replace(self, low=None, high=None, low_open=False, high_open=False) == ANY_NUMBER

    def few_values(self, most: int) -> list[Fraction] | None:
        """All values, in order, if they are no more than `most` or so."""
        step = self.step
        if step is None or self.low is None or self.high is None or (self.high - self.low) / step > most:
            return None
        values = (k * step for k in range(ceil(self.low / step), floor(self.high / step) + 1))
        return [value for value in values if self.admit(value)]

    @property
    def empty_range(self) -> bool:
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


ANY_NUMBER = NumberLimits()


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
