r"""Formats of JSON Schema as patterns (python dialect, the whole string).

Where a standard admits rare forms, one plain form is enforced, which every validator admits: upper-case T and Z, no
leap seconds, years 0001-9999, e-mail addresses without quotes or comments, URIs without an IP-literal host's zone."""

from __future__ import annotations

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(?:(?:0[48]|[2468][048]|[13579][26])00|\d\d(?:0[48]|[2468][048]|[13579][26]))"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|{_LEAP}-02-29)"
)
_HOUR_MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIME = rf"{_HOUR_MINUTE}:[0-5]\d(?:\.\d{{1,9}})?(?:Z|[+-]{_HOUR_MINUTE})"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_H16 = r"[0-9A-Fa-f]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = "(?:" + "|".join(
    [rf"(?:{_H16}:){{6}}{_LS32}", rf"::(?:{_H16}:){{5}}{_LS32}"]
    + [rf"(?:{_H16}(?::{_H16}){{0,{n}}})?::(?:{_H16}:){{{4 - n}}}{_LS32}" for n in range(5)]
    + [rf"(?:{_H16}(?::{_H16}){{0,5}})?::{_H16}", rf"(?:{_H16}(?::{_H16}){{0,6}})?::"]
) + ")"  # fmt: skip
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_TAIL = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_AUTHORITY = (
    rf"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{{2}})*@)?"
    rf"(?:\[{_IPV6}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{{2}})*)(?::\d*)?"
)
_HIER = rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*|)"
_URI = rf"[A-Za-z][A-Za-z0-9+.-]*:{_HIER}{_TAIL}"
_FIRST_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+"
_RELATIVE = rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_FIRST_SEGMENT}(?:/{_PCHAR}*)*|){_TAIL}"
_DURATION_TIME = r"T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S)"
_DURATION_DATE = r"(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)"

# Enforced for strings: the name of the format -> its pattern.
FORMATS: dict[str, str] = {
    "date": f"(?a){_DATE}",
    "time": f"(?a){_TIME}",
    "date-time": f"(?a){_DATE}T{_TIME}",
    "duration": rf"(?a)P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|\d+W)",
    "uuid": r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}",
    "email": rf"(?a){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*",
    "ipv4": f"(?a){_IPV4}",
    "ipv6": f"(?a){_IPV6}",
    "hostname": f"(?a){_LABEL}(?:\\.{_LABEL})*",
    "uri": f"(?a){_URI}",
    "uri-reference": f"(?a)(?:{_URI}|{_RELATIVE})",
    "json-pointer": r"(?:/(?:[^/~]|~[01])*)*",
}

# Say nothing about which strings are valid: hints for editors, forms and code generators.
ANNOTATION_FORMATS = frozenset({"password", "binary", "textarea", "markdown", "html", "string", "text"})
