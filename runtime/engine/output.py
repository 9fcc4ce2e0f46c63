"""From sampled tokens to what the client sees: text, stops, log-probabilities, the end.

Here: OutputStream, one per request: detokenises, watches for stop strings and patterns, holds text back while it may
still turn out to be part of one. Imported by the engine loop; no torch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import regex

from ..execution.sampler import Logprob
from ..request import Request
from .messages import Output, Timing, TokenLogprob, Usage
from .tokenizer import Detokenizer, Tokenizer


@dataclass(frozen=True)
class Finish:
    """Why an output ends: stop (`matched`: the token id, string or pattern), length, or abort."""

    reason: str
    matched: int | str | None = None


STOP_REGEX_SECONDS = 0.02  # for one search; longer ones would hold up every other request


class StopTooSlow(Exception):
    """A stop pattern takes too long on this output; the message is for its author."""


class OutputStream:
    """The output of one request as it grows."""

    def __init__(self, request: Request, tokenizer: Tokenizer, *, stream: bool) -> None:
        self._request, self._tokenizer, self._stream = request, tokenizer, stream
        self._began = time.monotonic()
        self._first_token_at: float | None = None
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=request.params.skip_special_tokens)
        self._patterns = [regex.compile(pattern) for pattern in request.params.stop_regex]
        self._stop_tokens = {id: stop for stop in request.params.stop if (id := tokenizer.special_id(stop)) is not None}
        self._longest_stop = max((len(stop) for stop in request.params.stop), default=0)
        self._text = ""  # all of it
        self._num_rewritten = 0  # bytes at the end of _text that the next tokens spell once more
        self._num_emitted = 0  # characters of _text that the client has
        self._tokens: list[int] = []  # not yet emitted
        self._logprobs: list[TokenLogprob] = []  # not yet emitted
        self._wants_prompt_logprobs = request.logprob_next is not None
        self._prompt_logprobs: list[TokenLogprob] = []  # not yet emitted
        if request.logprob_next == 0:
            first = int(request.tokens[0])
            self._prompt_logprobs.append(TokenLogprob(None, first, tokenizer.text_of(first)))

    def add_prompt_logprobs(self, logprobs: list[Logprob]) -> None:
        self._prompt_logprobs += [self._shown(logprob) for logprob in logprobs]

    def push(self, token_id: int, logprob: Logprob | None) -> Finish | None:
        """Take the next output token; the finish if it ends the output. Raises StopTooSlow."""
        params = self._request.params
        if self._first_token_at is None and self._request.planned_at is not None:
            self._first_token_at = time.monotonic()  # not those that were forced before anything was computed
        self._tokens.append(token_id)
        if logprob is not None:
            self._logprobs.append(self._shown(logprob))
        if (stop := self._stop_tokens.get(token_id)) is not None:
            return self.close(Finish("stop", stop))
        ends = token_id in params.stop_token_ids or (not params.ignore_eos and token_id in self._request.eos_token_ids)
        if ends and not params.no_stop_trim:
            return self.close(Finish("stop", token_id))
        added = self._detokenizer.push(token_id, self._num_rewritten)
        self._num_rewritten = max(0, self._num_rewritten - len(self._tokenizer.bytes_of(token_id)))
        before = len(self._text)
        self._text += added
        if added and (finish := self._find_stop(before)):
            return finish
        if ends:
            return self.close(Finish("stop", token_id))
        if self._request.num_output >= params.max_new_tokens:
            return self.close(Finish("length"))
        return None

    def reopen(self, num_tokens: int) -> None:
        """The last `num_tokens`, of which nobody has been told, go; the next to come spell the same bytes, then more.

        The text stays as it is."""
        assert num_tokens <= len(self._tokens), "a client has been told of it"
        for _ in range(num_tokens):
            self._num_rewritten += len(self._tokenizer.bytes_of(self._tokens.pop()))

    def close(self, finish: Finish) -> Finish:
        """The output ends here; part of a character that is left over becomes U+FFFD."""
        self._text += self._detokenizer.finish()
        return finish

    def take(self, finish: Finish | None) -> Output | None:
        """What is new for the client, or None if that is nothing, or not wanted before the end."""
        if finish is None and not (self._stream and (self._tokens or self._prompt_logprobs)):
            return None
        text = self._text[self._num_emitted : self._num_safe(finish)]
        output = Output(
            request_id=self._request.request_id,
            text=text,
            token_ids=self._tokens,
            logprobs=self._logprobs,
            prompt_logprobs=self._prompt_logprobs if self._wants_prompt_logprobs else None,
            usage=self.usage,
            finish_reason=finish.reason if finish else None,
            matched=finish.matched if finish else None,
            kept_token_ids=self._kept_tokens() if finish else None,
            timing=self._timing() if finish else None,
        )
        self._num_emitted += len(text)
        self._tokens, self._logprobs, self._prompt_logprobs = [], [], []
        return output

    @property
    def usage(self) -> Usage:
        request = self._request
        return Usage(request.num_prompt, request.num_output, request.num_cached or 0, request.num_forced)

    def _timing(self) -> Timing:
        now, request = time.monotonic(), self._request
        planned = request.planned_at if request.planned_at is not None else now
        first = self._first_token_at if self._first_token_at is not None else now
        return Timing(
            queue_ms=(planned - self._began) * 1000,
            prefill_ms=(first - planned) * 1000,
            decode_ms=(now - first) * 1000,
            computed_tokens=request.num_computed_prompt,
        )

    def _find_stop(self, before: int) -> Finish | None:
        """The earliest stop that the text from `before` on completes; cuts the text there."""
        found: tuple[int, int, str] | None = None  # start, end, what
        first = max(0, before - self._longest_stop + 1)
        for stop in self._request.params.stop:
            if (at := self._text.find(stop, first)) >= 0 and (found is None or at < found[0]):
                found = at, at + len(stop), stop
        for pattern in self._patterns:
            if (match := _search(pattern, self._text)) and (found is None or match.start() < found[0]):
                found = match.start(), match.end(), pattern.pattern
        if found is None:
            return None
        self._text = self._text[: found[1] if self._request.params.no_stop_trim else found[0]]
        return Finish("stop", found[2])

    def _num_safe(self, finish: Finish | None) -> int:
        """How much of the text can't become part of a stop any more."""
        if finish is not None:
            return len(self._text)
        safe = len(self._text)
        for stop in self._request.params.stop:
            longest = min(len(stop) - 1, len(self._text))
            held = next((n for n in range(longest, 0, -1) if self._text.endswith(stop[:n])), 0)
            safe = min(safe, len(self._text) - held)
        for pattern in self._patterns:
            if match := _search(pattern, self._text, partial=True):
                safe = min(safe, match.start())
        return max(safe, self._num_emitted)

    def _kept_tokens(self) -> list[int] | None:
        """The output tokens that spell exactly the text, if it ends where a token ends."""
        text, spelled, count = self._text.encode(), b"", 0
        output: list[int] = self._request.known[self._request.num_prompt :].tolist()
        while count < len(output) and len(spelled) < len(text):
            spelled += self._tokenizer.bytes_of(output[count])
            count += 1
        return output[:count] if spelled == text else None

    def _shown(self, logprob: Logprob) -> TokenLogprob:
        top = [(value, id, self._tokenizer.text_of(id)) for value, id in logprob.top]
        return TokenLogprob(logprob.logprob, logprob.token_id, self._tokenizer.text_of(logprob.token_id), top)


def _search(pattern: regex.Pattern[str], text: str, *, partial: bool = False) -> regex.Match[str] | None:
    try:
        return pattern.search(text, partial=partial, timeout=STOP_REGEX_SECONDS)
    except TimeoutError:
        raise StopTooSlow(
            f"stop_regex {pattern.pattern[:80]!r} takes over {STOP_REGEX_SECONDS} s on this output; simplify it"
        ) from None
