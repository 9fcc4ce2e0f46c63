r"""Formats of JSON Schema as patterns (python dialect, the whole string).

A format is a subset of what its standard has, never more: where a standard admits rare forms, one plain form is
enforced, which every validator admits.  Left out are lower-case t and z, leap seconds and the year 0000 in times;
comments in e-mail addresses; in host names labels xn--..., and more than 7 labels or long ones after the second; a
host's zone in URIs; and in internationalised names characters that are valid only next to certain others.
A format that is not listed says nothing about which strings are valid, as the standard has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from .idn_labels import idn_hostname


@dataclass(frozen=True)
class Format:
    """exact: whatever the pattern does not match is invalid, so that the opposite can be enforced too"""

    source: str | Callable[[], str]
    exact: bool = False

    @cached_property
    def pattern(self) -> str:
        return self.source if isinstance(self.source, str) else self.source()


_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(?:(?:0[48]|[2468][048]|[13579][26])00|\d\d(?:0[48]|[2468][048]|[13579][26]))"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|{_LEAP}-02-29)"
)
_HOUR_MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIME = rf"{_HOUR_MINUTE}:[0-5]\d(?:\.\d+)?(?:Z|[+-]{_HOUR_MINUTE})"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H16 = r"[0-9A-Fa-f]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = "(?:" + "|".join(
    [rf"(?:{_H16}:){{6}}{_LS32}", rf"::(?:{_H16}:){{5}}{_LS32}"]
    + [rf"(?:{_H16}(?::{_H16}){{0,{n}}})?::(?:{_H16}:){{{4 - n}}}{_LS32}" for n in range(5)]
    + [rf"(?:{_H16}(?::{_H16}){{0,5}})?::{_H16}", rf"(?:{_H16}(?::{_H16}){{0,6}})?::"]
) + ")"  # fmt: skip


def _label(longest: int) -> str:
    """A label of a host name (RFC 1123); without -- in its third and fourth place, which is for xn-- (RFC 5891)."""
    end, any_ = "[A-Za-z0-9]", "[A-Za-z0-9-]"
    third = rf"{any_}{end}{any_}{{0,{longest - 4}}}{end}|{any_}-{end}(?:{any_}{{0,{longest - 5}}}{end})?"
    return rf"{end}(?:{any_}?{end}|{third})?"


# Up to 253 characters in all (RFC 1035): 63 + 64 + 5 * 25.
_HOSTNAME = rf"(?:{_label(63)}(?:\.{_label(63)}(?:\.{_label(24)}){{0,5}})?)"

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_ADDRESS_LITERAL = rf"\[(?:{_IPV4}|IPv6:{_IPV6})\]"


def _mailbox(beyond_ascii: str, host: str) -> str:
    """RFC 5321, section 4.1.2; with characters beyond ASCII, RFC 6531."""
    atom = rf"[{beyond_ascii}{_ATEXT}]+"
    quoted = rf'"(?:[ !#-\[\]-~{beyond_ascii}]|\\[ -~])*"'
    return rf"(?a)(?:{atom}(?:\.{atom})*|{quoted})@(?:{host}|{_ADDRESS_LITERAL})"


_UCS = (  # RFC 3987, section 2.2
    "\xa0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef"
    + "".join(rf"\U{plane:04X}{'1000' if plane == 0xE else '0000'}-\U{plane:04X}FFFD" for plane in range(1, 0xF))
)
_PRIVATE = r"\uE000-\uF8FF\U000F0000-\U000FFFFD\U00100000-\U0010FFFD"


def _uri(beyond_ascii: str, in_query: str, *, relative: bool) -> str:
    """RFC 3986, appendix A, or RFC 3987 with characters beyond ASCII."""
    encoded = "%[0-9A-Fa-f]{2}"
    unreserved = rf"A-Za-z0-9._~{beyond_ascii}"
    subs = "!$&'()*+,;="
    segment = rf"(?:[{unreserved}{subs}:@-]|{encoded})"
    tail = rf"(?:\?(?:[{unreserved}{subs}:@/?{in_query}-]|{encoded})*)?(?:#(?:[{unreserved}{subs}:@/?-]|{encoded})*)?"
    future = rf"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~{subs}:-]+"
    authority = (
        rf"(?:(?:[{unreserved}{subs}:-]|{encoded})*@)?"
        rf"(?:\[(?:{_IPV6}|{future})\]|(?:[{unreserved}{subs}-]|{encoded})*)(?::\d*)?"
    )
    rooted = rf"//{authority}(?:/{segment}*)*|/(?:{segment}+(?:/{segment}*)*)?"
    absolute = rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{rooted}|{segment}+(?:/{segment}*)*|){tail}"
    if not relative:
        return rf"(?a){absolute}"
    first = rf"(?:[{unreserved}{subs}@-]|{encoded})+"
    return rf"(?a)(?:{absolute}|(?:{rooted}|{first}(?:/{segment}*)*|){tail})"


def _uri_template() -> str:
    """RFC 6570, section 2."""
    encoded = "%[0-9A-Fa-f]{2}"
    literal = rf"(?:[!#$&-;=?-\[\]_a-z~{_UCS}{_PRIVATE}]|{encoded})"
    name_char = rf"(?:[A-Za-z0-9_]|{encoded})"
    variable = rf"{name_char}(?:\.?{name_char})*(?::[1-9]\d{{0,3}}|\*)?"
    return rf"(?a)(?:{literal}|\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\}})*"


_POINTER = r"(?:/(?:[^/~]|~[01])*)*"
_DURATION_TIME = r"T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S)"
_DURATION_DATE = r"(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)"
_HEX = "[0-9A-Fa-f]"

FORMATS: dict[str, Format] = {
    "date": Format(f"(?a){_DATE}"),
    "time": Format(f"(?a){_TIME}"),
    "date-time": Format(f"(?a){_DATE}T{_TIME}"),
    "duration": Format(rf"(?a)P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|\d+W)", exact=True),
    "uuid": Format(rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}", exact=True),
    "email": Format(_mailbox("", _HOSTNAME)),
    "idn-email": Format(lambda: _mailbox(r"\x80-\U0010FFFF", idn_hostname(_HOSTNAME))),
    "ipv4": Format(f"(?a){_IPV4}", exact=True),
    "ipv6": Format(f"(?a){_IPV6}", exact=True),
    "hostname": Format(_HOSTNAME),
    "idn-hostname": Format(lambda: idn_hostname(_HOSTNAME)),
    "uri": Format(_uri("", "", relative=False), exact=True),
    "uri-reference": Format(_uri("", "", relative=True), exact=True),
    "iri": Format(_uri(_UCS, _PRIVATE, relative=False), exact=True),
    "iri-reference": Format(_uri(_UCS, _PRIVATE, relative=True), exact=True),
    "uri-template": Format(_uri_template()),
    "json-pointer": Format(rf"(?s){_POINTER}", exact=True),
    "relative-json-pointer": Format(rf"(?as)(?:0|[1-9]\d*)(?:#|{_POINTER})", exact=True),
}
