"""EngineCore: model, pool, scheduler, executor and loop of one engine, and what each client message does to them.

Runs in the engine's process, or on a thread in in-process mode; everything happens on one asyncio loop.
Imported by process.py and transport.py only; imports torch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch

from ..attention import make_attention
from ..config import EngineConfig
from ..errors import (
    EngineOverloaded,
    ForktreeRuntimeError,
    InvalidRequest,
    RequestFailed,
    describe_error,
)
from ..execution.executor import TorchExecutor
from ..memory.kv_store import KvStore
from ..memory.page_pool import PagePool
from ..models import ModelFiles, load_model
from ..models.causal_lm import CausalLM
from ..request import Request
from ..scheduler import Scheduler
from .constraints import Constraints
from .jump_forward import JumpForward
from .loop import EngineLoop, News, Served
from .messages import (
    Abort,
    AbortProgram,
    AskStats,
    ClientMessage,
    EngineMessage,
    EngineStats,
    Failed,
    Flush,
    Flushed,
    ModelInfo,
    Progress,
    Ready,
    RunProgram,
    Scores,
    Stats,
    Submit,
    SubmitScore,
)
from .output import Finish, OutputStream
from .programs import ProgramRunner
from .prompt_text import TextEncoder
from .prompts import make_chat_template
from .scoring import OnEnd, Scoring
from .tokenizer import Tokenizer

log = logging.getLogger("forktree.engine")

CLOSE_SECONDS = 5.0

Emit = Callable[[list[EngineMessage]], None]


class EngineCore:
    """One engine on one asyncio loop. `emit` gets the news of a step, as one list."""

    def __init__(self, config: EngineConfig, files: ModelFiles, emit: Emit) -> None:
        self._emit = emit
        self._started = time.monotonic()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        dtype = getattr(torch, config.dtype)
        with ThreadPoolExecutor(1) as beside:  # a quarter of a second that the weights' loading hides
            tokenizer = beside.submit(_load_tokenizer, files)
            attention = make_attention(config.attention)
            model = load_model(files, attention=attention, dtype=dtype)
            model.warmup(lambda what, fraction: emit([Progress(what, fraction)]))
            self._tokenizer = tokenizer.result()
        self._eos_token_ids = tuple(id for id in files.eos_token_ids if id < model.config.vocab_size)
        self._context_length = context_length(config, model)
        num_pages = num_pool_pages(config, model, dtype)
        self._scheduler = Scheduler(config, PagePool(num_pages))
        kv = KvStore(  # one page more than the pool hands out: keys and values nobody will read go there
            model.config.num_layers,
            num_pages + 1,
            config.page_size,
            model.config.num_kv_heads,
            model.config.head_dim,
            dtype=dtype,
        )
        self._executor = TorchExecutor(
            model,
            kv,
            page_size=config.page_size,
            scratch_page=num_pages,
            num_slots=config.max_running_requests,
        )
        mask_words = -(-self._tokenizer.vocab_size // 32)
        jump_forward = JumpForward(self._tokenizer, mask_words=mask_words) if config.jump_forward else None
        prepare = jump_forward.prepare if jump_forward is not None else None
        self._constraints = Constraints(self._tokenizer, files.eos_token_ids, config.grammar_backend, prepare)
        self._loop = EngineLoop(self._scheduler, self._executor, emit, mask_words=mask_words, jump_forward=jump_forward)
        self._internal_ids = count(-1, -1)  # of requests that no client knows by itself
        self._scoring = Scoring(self._loop, self._tokenizer, self._internal_ids.__next__)
        self._overlap = config.overlap
        self._compiling: dict[int, tuple[Served, asyncio.Task[None]]] = {}
        self._max_queued = config.max_queued_requests
        self._longest_request = min(self._context_length, num_pages * config.page_size)
        self._info = self._describe(files, model, config, num_pages)
        encoder = TextEncoder(self._tokenizer, self._info)
        room = config.max_running_requests + config.max_queued_requests // 2  # the rest is for requests by themselves
        new_id = self._internal_ids.__next__
        self._programs = ProgramRunner(
            self, emit, encoder, self._info, new_id, self._scheduler, max_requests=room, later=_soon
        )

    async def run(self) -> None:
        """Say that the engine is ready, then serve until close."""
        self._emit([Ready(self._info)])
        self._constraints.prepare()
        try:
            await (self._loop.run_overlapped() if self._overlap else self._loop.run_plain())
        finally:
            for _, task in self._compiling.values():
                task.cancel()
            self._constraints.close()
            closing = asyncio.get_running_loop().run_in_executor(None, self._executor.close)
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)  # a step that hangs must not keep the engine alive

    def handle(self, message: ClientMessage) -> None:
        """Do what a client asks; called on the engine's loop. Never raises for what the client got wrong."""
        if isinstance(message, Submit):
            self.submit(message)
        elif isinstance(message, SubmitScore):
            self.score(message)
        elif isinstance(message, Abort):
            self.abort(message.request_id)
        elif isinstance(message, RunProgram):
            self._programs.run(message)
        elif isinstance(message, AbortProgram):
            self._programs.abort(message)
        elif isinstance(message, AskStats):
            self._emit([Stats(message.call_id, self._stats())])
        elif isinstance(message, Flush):
            self._scheduler.flush()
            self._emit([Flushed(message.call_id)])
        else:
            self._loop.close()

    # -- requests -----------------------------------------------------------------------------------------------------

    def submit(self, message: Submit, tell: Callable[[News], None] | None = None) -> None:
        """Start a request; `tell`, or the client, gets its news, an error that keeps it from starting too."""
        request = self._request(message)
        served = Served(request, OutputStream(request, self._tokenizer, stream=message.stream), tell)
        if not message.params.constraint_field:
            self._start(served)
        elif len(self._compiling) >= self._max_queued:
            overloaded = EngineOverloaded(f"{len(self._compiling)} constraints wait to be compiled; try again later")
            self._refuse(message.request_id, overloaded, tell)
        else:
            task = asyncio.get_running_loop().create_task(self._compile_then_start(served))
            self._compiling[message.request_id] = served, task
            task.add_done_callback(lambda _: self._compiling.pop(message.request_id, None))

    def _request(self, message: Submit) -> Request:
        params = message.params
        seed = params.seed if params.seed is not None else int.from_bytes(os.urandom(8), "little")
        eos = self._eos_token_ids
        request = Request.create(message.request_id, message.prompt, params, seed=seed, eos_token_ids=eos)
        request.namespace = message.namespace
        request.return_logprob = message.return_logprob
        request.num_top_logprobs = min(message.num_top_logprobs, self._info.vocab_size)
        if message.return_logprob and message.logprob_start is not None:
            request.logprob_next = message.logprob_start
        return request

    async def _compile_then_start(self, served: Served) -> None:
        request = served.request
        try:
            room = self._longest_request - request.num_prompt
            request.matcher = await self._constraints.compile(request.params, room=room)
        except InvalidRequest as error:
            self._refuse(request.request_id, error, served.tell)
            return
        except Exception:
            log.exception("compiling a constraint failed")
            failed = RequestFailed("compiling the constraint failed; see the engine's log")
            self._refuse(request.request_id, failed, served.tell)
            return
        self._start(served)

    def _start(self, served: Served) -> None:
        try:
            self._loop.start(served)
        except EngineOverloaded as error:
            self._refuse(served.request.request_id, error, served.tell)

    def score(self, message: SubmitScore, answer: OnEnd | None = None) -> None:
        """Score continuations; `answer`, or the client, gets the log-probabilities of the trie's nodes, or an error."""

        def tell_client(result: Scores | ForktreeRuntimeError) -> None:
            if isinstance(result, ForktreeRuntimeError):
                self._refuse(message.request_id, result)
            else:
                self._emit([result])

        on_end = answer or tell_client
        self._scoring.start(message.request_id, message.prompt, message.trie, on_end, namespace=message.namespace)

    def abort(self, request_id: int) -> None:
        """End a request that runs, waits or is being compiled; ids that are not known any more are harmless."""
        self._scoring.abort(request_id)
        served, task = self._compiling.pop(request_id, (None, None))
        if served is not None and task is not None:
            task.cancel()
            output = served.output.take(Finish("abort"))
            assert output is not None
            self._send(output, served.tell)
        self._loop.abort(request_id)

    def _refuse(self, request_id: int, error: ForktreeRuntimeError, tell: Callable[[News], None] | None = None) -> None:
        self._send(Failed(request_id, *describe_error(error)), tell)

    def _send(self, news: News, tell: Callable[[News], None] | None) -> None:
        if tell is not None:
            tell(news)
        else:
            self._emit([news])

    # -- what it is, how it is ----------------------------------------------------------------------------------------

    def _describe(self, files: ModelFiles, model: CausalLM, config: EngineConfig, num_pages: int) -> ModelInfo:
        chat_format = None
        if files.chat_template is not None:
            chat_format = make_chat_template(
                files.chat_template, self._tokenizer, bos=files.bos_token_id, eos=files.eos_token_ids
            ).chat_format()
        return ModelInfo(
            name=files.name,
            model_path=str(files.directory),
            context_length=self._longest_request,
            vocab_size=model.config.vocab_size,
            eos_token_ids=files.eos_token_ids,
            bos_token_id=files.bos_token_id,
            add_bos=files.add_bos,
            chat_template=files.chat_template,
            chat_format=chat_format,
            tokenizer_path=str(files.tokenizer_json),
            num_pages=num_pages,
            page_size=config.page_size,
        )

    def _stats(self) -> EngineStats:
        scheduler, counters = self._scheduler, self._scheduler.counters
        return EngineStats(
            prompt_tokens=counters.prompt_tokens,
            computed_prompt_tokens=counters.computed_prompt_tokens,
            cached_tokens=counters.cached_tokens,
            generated_tokens=counters.generated_tokens,
            forced_tokens=counters.forced_tokens,
            saved_passes=counters.saved_passes,
            retractions=counters.retractions,
            evicted_pages=counters.evicted_pages,
            steps=counters.steps,
            requests_running=scheduler.num_running,
            requests_waiting=scheduler.num_waiting,
            pages_free=scheduler.pool.num_free,
            pages_cached=scheduler.tree.num_cached_pages,
            pages_running=scheduler.num_running_pages,
            pages_total=scheduler.pool.num_pages,
            uptime_seconds=time.monotonic() - self._started,
            device_seconds=self._executor.busy_seconds,
        )


def _soon(what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(what)


def _load_tokenizer(files: ModelFiles) -> Tokenizer:
    tokenizer = Tokenizer(files.tokenizer_json)
    _ = tokenizer.vocab_size  # the first output token needs what each id spells
    return tokenizer


def context_length(config: EngineConfig, model: CausalLM) -> int:
    """Tokens of one request at most. Raises InvalidRequest for more than the model was made for."""
    longest = model.config.max_context
    if config.context_length is not None and config.context_length > longest:
        raise InvalidRequest("context_length", f"got {config.context_length}, the model was made for {longest}")
    return config.context_length or longest


def num_pool_pages(config: EngineConfig, model: CausalLM, dtype: torch.dtype) -> int:
    """Pages of the pool. Raises InvalidRequest if none fits in what is granted, or they do not fit in this machine."""
    shape = model.config
    token_bytes = KvStore.bytes_per_token(shape.num_layers, shape.num_kv_heads, shape.head_dim, dtype)
    page_bytes = token_bytes * config.page_size
    field = "kv_cache_bytes" if config.num_pages is None else "num_pages"
    num_pages = config.num_pages or config.kv_cache_bytes // page_bytes
    if num_pages < 1:
        raise InvalidRequest(field, f"one page takes {page_bytes} bytes; give more")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_pages * page_bytes > memory:
        raise InvalidRequest(
            field, f"{num_pages} pages take {num_pages * page_bytes:,} bytes, this machine has {memory:,}"
        )
    return num_pages
