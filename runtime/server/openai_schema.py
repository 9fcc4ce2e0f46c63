"""OpenAI's completion and chat requests as typed structs, and from them to our sampling parameters.

Here: which fields there are, which are refused and why, how they map.  Not here: HTTP, replies, generation.
A field we neither enforce nor know to be harmless is refused by name: nothing a client asks for is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from ..errors import InvalidRequest
from ..sampling_params import SamplingParams
from .body import convert, present, refuse
from .constraint_fields import Constrained, constraint_of, known_formats

MAX_LOGPROBS = 20
MAX_MESSAGES = 4096
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own default for /v1/completions

HARMLESS = ("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
ONLY: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "best_of": (1,),
    "use_beam_search": (False,),
}
_TOOLS = "tool calls are not supported by this version of the server"
UNSUPPORTED: dict[str, str] = {
    "tools": _TOOLS,
    "tool_choice": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    **dict.fromkeys(("grammar", "json_schema"), "not supported under this name; use ebnf or response_format"),
    **dict.fromkeys(
        ("chat_template", "chat_template_kwargs"), "the model's own chat template is used; it can't be changed"
    ),
    **dict.fromkeys(("audio", "prediction", "web_search_options"), "not supported: this server takes and gives text"),
    **dict.fromkeys(("reasoning_effort", "verbosity", "reasoning"), "not supported by this version of the server"),
    **dict.fromkeys(("best_of", "use_beam_search"), "beam search is not supported; use n"),
    **dict.fromkeys(("extra_key", "priority"), "not supported by this version of the server"),
    "suffix": "not supported: the model does not fill in the middle",
    "prompt_logprobs": "not supported; use echo with logprobs",
}
NAMES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}

SAME_NAME = (
    *("n", "stop", "stop_token_ids", "stop_regex", "temperature", "top_p", "top_k", "min_p", "frequency_penalty"),
    *("presence_penalty", "repetition_penalty", "logit_bias", "seed", "ignore_eos", "skip_special_tokens"),
)


STREAM_ONLY: dict[str, tuple[object, ...]] = {"include_obfuscation": (False,)}
STREAM_UNSUPPORTED = {"include_obfuscation": "not supported: chunks are not padded to hide their length"}


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    include_usage: bool = False


class Common(Constrained, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What completions and chat share: OpenAI's fields, and the ones vLLM and SGLang add under the same names."""

    model: str | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int = 0
    stop: str | list[str] = msgspec.field(default_factory=list)
    stop_token_ids: list[int] = msgspec.field(default_factory=list)
    stop_regex: str | list[str] = msgspec.field(default_factory=list)
    include_stop_str_in_output: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[str, float] = msgspec.field(default_factory=dict)
    seed: int | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool = False
    cache_salt: Annotated[str, msgspec.Meta(max_length=256)] = ""  # requests share cached prefixes within one salt only

    def asked_tokens(self) -> int | None:
        """The limit under either of its names."""
        one, other = self.max_tokens, self.max_completion_tokens
        if one is not None and other is not None and one != other:
            raise InvalidRequest("max_completion_tokens", f"got {other}, but max_tokens is {one}; give one of them")
        return one if other is None else other


class CompletionRequest(Common, forbid_unknown_fields=True, kw_only=True, frozen=True):
    prompt: str | list[str | int | list[int]]
    echo: bool = False
    logprobs: int | None = None


class TextPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    type: Literal["text"]
    text: str


class Message(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = ""
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As chat templates take it: one string, and OpenAI's newer word for system as the old one."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": text}
        return message if self.name is None else message | {"name": self.name}


class ChatRequest(Common, forbid_unknown_fields=True, kw_only=True, frozen=True):
    messages: list[Message]
    logprobs: bool = False
    top_logprobs: int = 0


def parse_completion(body: Mapping[str, Any]) -> CompletionRequest:
    request = convert(_known(body), CompletionRequest)
    if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
        raise InvalidRequest("logprobs", f"got {request.logprobs}, wanted 0 to {MAX_LOGPROBS}")
    return request


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    fields = _known(body)
    messages = fields.get("messages")
    if isinstance(messages, list):
        fields["messages"] = [_known_message(i, message) for i, message in enumerate(messages)]
    request = convert(fields, ChatRequest)
    if not request.messages:
        raise InvalidRequest("messages", "got an empty list, wanted at least one message")
    if len(request.messages) > MAX_MESSAGES:
        raise InvalidRequest("messages", f"got {len(request.messages)} messages, at most {MAX_MESSAGES} are taken")
    if not 0 <= request.top_logprobs <= MAX_LOGPROBS:
        raise InvalidRequest("top_logprobs", f"got {request.top_logprobs}, wanted 0 to {MAX_LOGPROBS}")
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("top_logprobs", "logprobs must be true for it to be used")
    return request


def sampling_params(request: Common, max_new_tokens: int) -> SamplingParams:
    """Raises InvalidRequest with the request's own field names."""
    fields: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": request.min_tokens,
        "no_stop_trim": request.include_stop_str_in_output,
        "white_space": request.white_space,
        "order": request.order,
    }
    fields.update({name: getattr(request, name) for name in SAME_NAME})
    if (constraint := constraint_of(request)) is not None:
        field, value, _ = constraint
        fields[field] = value
    return SamplingParams.from_dict(fields)


def names_of(request: Common) -> dict[str, str]:
    """The engine's field names -> the names this request used."""
    limit = "max_completion_tokens" if request.max_completion_tokens is not None else "max_tokens"
    prompt = "messages" if isinstance(request, ChatRequest) else "prompt"
    names = {**NAMES, "max_new_tokens": limit, "text": prompt, "input_ids": prompt, "prompt": prompt}
    try:
        constraint = constraint_of(request)
    except InvalidRequest:  # names its fields as the request does
        constraint = None
    return names if constraint is None else {**names, constraint[0]: constraint[2]}


def _known(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = refuse(present(body), unsupported=UNSUPPORTED, only=ONLY, harmless=HARMLESS)
    known_formats(fields)
    if isinstance(fields.get("stream_options"), dict):
        options = fields["stream_options"] = present(fields["stream_options"])
        refuse(options, unsupported=STREAM_UNSUPPORTED, only=STREAM_ONLY, harmless=(), inside="stream_options.")
    if fields.get("stop") == "":  # as in the native form, "" is no constraint
        del fields["stop"]
    return fields


def _known_message(index: int, message: Any) -> Any:
    """Clients send back the messages they got, with the fields that were null or empty there."""
    if not isinstance(message, dict):
        return message  # convert() says what was wanted
    fields = present(message)
    for name in ("tool_calls", "annotations"):
        if fields.get(name) == []:
            del fields[name]
    at = f"messages[{index}]"
    if fields.get("role") in ("tool", "function"):
        raise InvalidRequest(f"{at}.role", _TOOLS, "unsupported_parameter")
    for name in ("tool_calls", "function_call", "tool_call_id"):
        if name in fields:
            raise InvalidRequest(f"{at}.{name}", _TOOLS, "unsupported_parameter")
    if "content" not in fields:
        raise InvalidRequest(f"{at}.content", "this parameter is required", "missing_parameter")
    if isinstance(fields["content"], list):
        for j, part in enumerate(fields["content"]):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind != "text":
                message = f"only text is supported, got {kind[:64]!r}"
                raise InvalidRequest(f"{at}.content[{j}].type", message, "unsupported_parameter")
    return fields
