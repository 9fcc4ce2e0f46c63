"""SGLang's /generate request, and forktree's additions, as a typed struct -> engine jobs.

Here: the fields, the single and the batch form, which fields are refused.  Not here: replies.
forktree adds `prompt_parts`: one prompt as texts and token ids, each text tokenized by itself, so that a client can
send back the ids it was given and meet the same cached prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

import msgspec

from ..errors import InvalidRequest
from ..sampling_params import SamplingParams
from .body import convert, present, refuse
from .constraint_fields import json_text
from .exchange import SAFE_ID, Job, new_id
from .prompts import Prompt, prompt_ids
from .service import Service

T = TypeVar("T")
MAX_TOP_LOGPROBS = 100
_NOT_YET = "not supported by this version of the server"
_CODE = "not supported: no code is taken from a request"
HARMLESS = ("log_metrics", "no_logs", "custom_labels", "routing_key", "conversation_id", "modalities")
ONLY: dict[str, tuple[object, ...]] = dict.fromkeys(
    ("return_hidden_states", "return_routed_experts", "return_entropy", "return_sampling_mask", "background"), (False,)
)
UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(
        ("image_data", "video_data", "audio_data", "input_embeds"), "not supported: this server takes text"
    ),
    **dict.fromkeys(("lora_path", "session_params", "session_id", "priority", "extra_key"), _NOT_YET),
    **dict.fromkeys(("token_ids_logprob", "return_hidden_states", "data_parallel_rank", "background"), _NOT_YET),
    "custom_logit_processor": _CODE,
}
PARAMS_ONLY: dict[str, tuple[object, ...]] = {
    "spaces_between_special_tokens": (True,),
    "ebnf": ("",),
    "structural_tag": ("",),
    "stop": ("",),
    "regex": ("",),
    "json_schema": ("",),
}
PARAMS_UNSUPPORTED = {"custom_params": _CODE}


class GenerateRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    text: str | list[str] | None = None
    input_ids: list[int | list[int]] | None = None
    prompt_parts: list[str | list[int]] | None = None
    sampling_params: dict[str, Any] | list[dict[str, Any]] = msgspec.field(default_factory=dict)
    return_logprob: bool | list[bool] = False
    logprob_start_len: int | list[int] | None = None
    top_logprobs_num: int | list[int] = 0
    return_text_in_logprobs: bool = False
    return_prompt_token_ids: bool = False
    stream: bool = False
    rid: str | list[str] | None = None
    cache_salt: Annotated[str, msgspec.Meta(max_length=256)] = ""  # forktree's; as in Engine.stream


@dataclass(frozen=True)
class Generate:
    """A parsed request. `field` held the prompt; `batch` says whether the answer is a list even for one job."""

    asked: GenerateRequest
    field: str
    jobs: list[Job]
    batch: bool
    rid: str
    legacy_input_logprobs: bool

    @property
    def as_list(self) -> bool:
        return self.batch or self.jobs[0].params.n > 1


async def parse_generate(service: Service, body: Mapping[str, Any]) -> Generate:
    fields = refuse(present(body), unsupported=UNSUPPORTED, only=ONLY, harmless=HARMLESS)
    asked = convert(fields, GenerateRequest)
    prompts, batch, field = prompts_of(asked.text, asked.input_ids, asked.prompt_parts)
    if len(prompts) > service.config.max_prompts:
        raise InvalidRequest(field, f"got {len(prompts)} prompts, at most {service.config.max_prompts} are taken")
    params = [_params(given) for given in _spread(asked.sampling_params, len(prompts), "sampling_params")]
    if sum(each.n for each in params) > service.config.max_prompts:
        raise InvalidRequest("n", f"at most {service.config.max_prompts} outputs are made for one request")
    if any(each.n > service.config.max_choices for each in params):
        raise InvalidRequest("n", f"wanted 1 to {service.config.max_choices}")
    rid, rids = _ids(service, asked.rid, len(prompts))
    wants = _spread(asked.return_logprob, len(prompts), "return_logprob")
    starts = _starts(asked, params, batch, len(prompts))
    tops = _spread(asked.top_logprobs_num, len(prompts), "top_logprobs_num")
    if any(not 0 <= top <= MAX_TOP_LOGPROBS for top in tops):
        raise InvalidRequest("top_logprobs_num", f"wanted 0 to {MAX_TOP_LOGPROBS}")
    jobs = []
    for i, prompt in enumerate(prompts):
        ids = await prompt_ids(service.engine, prompt, field)
        if wants[i] and not -1 <= starts[i] <= len(ids):
            raise InvalidRequest(
                "logprob_start_len", f"got {starts[i]}, wanted -1 or 0 to the prompt's {len(ids)} tokens"
            )
        job = Job(
            ids,
            params[i],
            rids[i],
            asked.cache_salt,
            return_logprob=wants[i],
            logprob_start_len=starts[i] if wants[i] else -1,
            top_logprobs_num=tops[i] if wants[i] else 0,
        )
        jobs.append(job)
    return Generate(asked, field, jobs, batch, rid, _is_select(asked, params))


def prompts_of(
    text: str | list[str] | None, input_ids: list[int | list[int]] | None, parts: list[str | list[int]] | None
) -> tuple[Sequence[Prompt], bool, str]:
    """The prompts, whether they came as a batch, and the field they came in."""
    given = {"text": text, "input_ids": input_ids, "prompt_parts": parts}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        what = " and ".join(names) if names else "none"
        raise InvalidRequest(names[-1] if names else "text", f"give one of text, input_ids, prompt_parts; got {what}")
    name = names[0]
    if text is not None:
        prompts: Sequence[Prompt] = [text] if isinstance(text, str) else text
        batch = not isinstance(text, str)
    elif parts is not None:
        prompts, batch = [parts], False
    else:
        assert input_ids is not None
        kinds = {type(part) for part in input_ids}
        if len(kinds) > 1:
            raise InvalidRequest("input_ids", "got a mixed list, wanted token ids or lists of token ids")
        batch = kinds == {list}
        prompts = convert({"ids": input_ids}, _Batch).ids if batch else [convert({"ids": input_ids}, _Single).ids]
    if not prompts:
        raise InvalidRequest(name, "got an empty list, wanted at least one prompt")
    return prompts, batch, name


class _Batch(msgspec.Struct):
    ids: list[list[int]]


class _Single(msgspec.Struct):
    ids: list[int]


def _params(given: dict[str, Any]) -> SamplingParams:
    """SGLang's names, two of its spellings ("" for no constraint, sampling_seed), and a schema as an object."""
    fields = present(given)
    for name, values in PARAMS_ONLY.items():  # "" means unset
        if fields.get(name) in values:
            del fields[name]
    for name, why in PARAMS_UNSUPPORTED.items():
        if name in fields:
            raise InvalidRequest(name, why, "unsupported_parameter")
    if "sampling_seed" in fields and "seed" not in fields:
        fields["seed"] = fields.pop("sampling_seed")
    for name in ("json_schema", "structural_tag"):
        if isinstance(fields.get(name), (dict, bool)):
            fields[name] = json_text(fields[name])
    return SamplingParams.from_dict(fields)


def _spread(given: T | list[T], count: int, field: str) -> list[T]:
    """One value for all prompts, or one for each."""
    if not isinstance(given, list):
        return [given] * count
    if len(given) != count:
        raise InvalidRequest(field, f"got {len(given)} values for {count} prompts")
    return given


def _ids(service: Service, rid: str | list[str] | None, count: int) -> tuple[str, list[str]]:
    """The id the whole request is known by, and one per job."""
    if isinstance(rid, list):
        rids = _spread(cast("str | list[str]", rid), count, "rid")
        whole = rids[0] if rids else new_id()
    else:
        whole = rid or new_id()
        rids = [whole] if count == 1 else [f"{whole}_{i}" for i in range(count)]
    if any(not SAFE_ID.fullmatch(each) for each in [whole, *rids]):
        raise InvalidRequest("rid", "wanted 1 to 128 of the characters A-Z a-z 0-9 . _ : -")
    if len(set(rids)) < len(rids) or any(service.is_live(each) for each in rids):
        raise InvalidRequest("rid", "a request with this id is running", "duplicate_id")
    return whole, rids


def _starts(asked: GenerateRequest, params: Sequence[SamplingParams], batch: bool, count: int) -> list[int]:
    """-1 means outputs only. SGLang's frontend leaves the start out when it scores token ids, and means 0."""
    if asked.logprob_start_len is not None:
        return _spread(asked.logprob_start_len, count, "logprob_start_len")
    scores_ids = batch and asked.input_ids is not None and all(each.max_new_tokens == 0 for each in params)
    return [0 if scores_ids and asked.return_logprob else -1] * count


def _is_select(asked: GenerateRequest, params: Sequence[SamplingParams]) -> bool:
    """SGLang's frontend scoring choices: a batch of texts, nothing generated, log-probabilities with their text.

    It reads them in a form the server once had: from token start + 1 on, never null."""
    start = asked.logprob_start_len
    return (
        isinstance(asked.text, list)
        and asked.return_logprob is True
        and asked.return_text_in_logprobs
        and isinstance(start, int)
        and start > 0
        and all(each.max_new_tokens == 0 for each in params)
    )
