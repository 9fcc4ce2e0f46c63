"""Programs on an SGLang server, over its native API.

Here: SGLangEndpoint: prompts as text, choices scored from the log-probabilities of a prompt.  Not here: connections
and errors (http_client), how a reply is read (http, whose server speaks the same protocol and more)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields
from typing import Any

from ..errors import BackendError, RequestRefused
from .blocking import BlockingServerCalls
from .http import ReplyReader, chat_format_of, logprob_fields
from .http_client import HttpClient, field_of
from .protocol import Capabilities, ChatFormat, Chunk, GenerateRequest, ModelInfo, Prompt, SamplingParams, Score

__all__ = ["SGLangEndpoint"]

_SERVER = "an SGLang server"
_OPTIONS = frozenset(each.name for each in fields(SamplingParams)) - {"white_space", "order"}
_OPTIONS |= {"return_logprob", "logprob_start_len", "top_logprobs_num"}
_MOST_REMEMBERED = 1024  # sets of choices
_TAIL = 8  # tokens of the prompt that a choice may retokenize; more are looked at where that is not enough

Entries = list[tuple[float | None, int]]  # (log-probability, token id), of consecutive tokens


class SGLangEndpoint(BlockingServerCalls):
    """A Backend on a server started with `python -m sglang.launch_server`: ft.SGLangEndpoint("http://localhost:30000").

    chat_format  how roles become text, since such a server does not say: ft.ChatFormat.chatml() for many models.
                 Without it roles are refused; ft.OpenAI(model, base_url=url + "/v1") leaves them to the server
    api_key, verify, timeout, connect_timeout, max_connections
                 as for RuntimeEndpoint"""

    capabilities = Capabilities(name=_SERVER, options=_OPTIONS, token_ids=False)

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        chat_format: ChatFormat | None = None,
        verify: bool | str | None = None,
        timeout: float | None = 600.0,
        connect_timeout: float | None = 10.0,
        max_connections: int = 256,
    ) -> None:
        self.max_in_flight = max_connections
        self._http = HttpClient(
            base_url,
            api_key=api_key,
            verify=verify,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_connections=max_connections,
        )
        self.base_url, self._chat_format = self._http.base_url, chat_format
        self._info: ModelInfo | None = None
        self._tokens_of: dict[tuple[str, ...], list[list[int]]] = {}  # by choices, as they were last scored

    @property
    def used(self) -> bool:
        """Has anything been asked of the server?"""
        return self._http.used

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        if self._info is None:
            found = await self._http.call_object("GET", "/get_model_info")
            name = found.get("served_model_name") or found.get("model_path") or self.base_url
            chat_format = self._chat_format or chat_format_of(found.get("chat_format"))
            self._info = ModelInfo(str(name), int(found.get("context_length") or 0), chat_format)
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        body = {
            "text": _text(request.prompt),
            "sampling_params": _sampling_params(request.sampling),
            "stream": request.stream,
            **logprob_fields(request),
        }
        if request.request_id is not None:
            body["rid"] = request.request_id
        reader = ReplyReader(_SERVER, "; start it without --incremental-streaming-output")
        if not request.stream:
            yield reader.read(await self._http.call_object("POST", "/generate", body))
            return
        async with aclosing(self._http.events("/generate", body)) as events:
            async for event in events:
                yield reader.read(event)

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        """Two requests: how many tokens the prompt has, then it and all choices, with their log-probabilities.

        A choice may change how the end of the prompt is tokenized, so its tokens are those from where it parts from
        the prompt's; where choices part at different places, all count from the first of these."""
        if prompt is None:
            return await self._score_alone(continuations)
        text = _text(prompt)
        if not text:
            raise RequestRefused("an SGLang server can't score choices with no text before them", field="text")
        num_tokens = await self._count_tokens(text)
        tail = _TAIL
        while True:
            start = max(num_tokens - tail, 0)
            texts = [text, *(text + each for each in continuations)]
            alone, *choices = await self._prompt_logprobs({"text": texts}, len(texts), start)
            parting = min(_common_length(alone, choice) for choice in choices)
            if start == 0 or parting > 0:
                break
            tail *= 8
        scores = [_score(choice, min(parting, len(alone))) for choice in choices]
        self._remember(continuations, scores)
        return scores

    async def commit(self, prompt: Prompt) -> None:
        await self._http.call("POST", "/generate", {"text": _text(prompt), "sampling_params": {"max_new_tokens": 0}})

    async def clear_cache(self) -> bool:
        async with self._http.response("POST", "/flush_cache"):  # its answer is a sentence
            return True

    async def server_info(self) -> dict[str, Any]:
        try:
            return await self._http.call_object("GET", "/server_info")
        except RequestRefused as error:
            if error.status != 404:
                raise
            return await self._http.call_object("GET", "/get_server_info")  # as it was called before 0.5.10

    async def aclose(self) -> None:
        await self._http.aclose()

    # ---- how

    async def _count_tokens(self, text: str) -> int:
        found = await self._http.call_object(
            "POST", "/generate", {"text": text, "sampling_params": {"max_new_tokens": 0}}
        )
        return int(field_of(found, "meta_info", _SERVER)["prompt_tokens"])

    async def _score_alone(self, continuations: Sequence[str]) -> list[Score]:
        """The tokens that the continuations had after their prompt, with nothing before them: as ids, since a server
        may begin every text with a token of its own."""
        known = self._tokens_of.get(tuple(continuations))
        field = {"input_ids": known} if known is not None else {"text": list(continuations)}
        found = await self._prompt_logprobs(field, len(continuations), 0)
        return [_score([(0.0, entries[0][1]), *entries[1:]], 0) for entries in found]

    def _remember(self, continuations: Sequence[str], scores: Sequence[Score]) -> None:
        self._tokens_of[tuple(continuations)] = [list(score.token_ids) for score in scores]
        if len(self._tokens_of) > _MOST_REMEMBERED:
            del self._tokens_of[next(iter(self._tokens_of))]

    async def _prompt_logprobs(self, prompts: dict[str, Any], num_prompts: int, start: int) -> list[Entries]:
        """Of each prompt, the tokens from `start` on."""
        body = {
            **prompts,
            "sampling_params": {"max_new_tokens": 0, "temperature": 0},
            "return_logprob": True,
            "logprob_start_len": start,
        }
        found = await self._http.call("POST", "/generate", body)
        if not isinstance(found, list) or len(found) != num_prompts:
            raise BackendError(f"the server's answer to {num_prompts} texts is not a list of as many; is it {_SERVER}?")
        return [_entries(each, start) for each in found]


def _text(prompt: Prompt) -> str:
    """The server has no prompts in parts; `capabilities` say so, and none has ids."""
    return "".join(part for part in prompt if isinstance(part, str))


def _sampling_params(sampling: SamplingParams) -> dict[str, Any]:
    values = sampling.to_dict()
    if "seed" in values:
        values["sampling_seed"] = values.pop("seed")
    return values


def _entries(found: Any, start: int) -> Entries:
    """Servers send the tokens from `start` on, the first with no log-probability; older ones begin one later."""
    meta = field_of(found, "meta_info", _SERVER)
    triples = field_of(meta, "input_token_logprobs", _SERVER) or []
    expected = int(meta["prompt_tokens"]) - start
    if len(triples) == expected - 1 and start > 0:
        return [(None, -1), *((logprob, token_id) for logprob, token_id, *_ in triples)]
    if len(triples) != expected:
        raise BackendError(f"the server sent {len(triples)} log-probabilities for {expected} tokens of a prompt")
    return [(logprob, token_id) for logprob, token_id, *_ in triples]


def _common_length(one: Entries, other: Entries) -> int:
    """How many leading tokens are the same.  The first of an older server's is unknown: it is taken to be."""
    length = 0
    for (_, left), (_, right) in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _score(choice: Entries, parting: int) -> Score:
    own = choice[parting:]
    if not own or any(logprob is None for logprob, _ in own):
        raise BackendError("the server gave no log-probability for some of a choice's tokens")
    return Score(tuple(token_id for _, token_id in own), tuple(float(logprob or 0.0) for logprob, _ in own))
