"""The command line: serve, run, explain, grammar, fetch, warmup.  It parses and calls.

Heavy imports stay inside commands, so that --help is quick.

Exit codes: 0 done (or stopped by a signal, after draining), 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from forktree.runtime.config import EngineConfig
from forktree.runtime.errors import ForktreeRuntimeError, InvalidRequest
from forktree.runtime.server.config import ServerConfig

if TYPE_CHECKING:
    from forktree.runtime.server import Server, ServingEngine

ENGINE_MODULES = ("torch", "msgspec", "tokenizers", "zmq", "numba", "prometheus_client", "jinja2")
INSTALL_ENGINE = "pip install 'forktree[engine]'"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

app = typer.Typer(
    name="forktree",
    help="Programs of many model calls, and a runtime that shares what they have in common.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelArgument = Annotated[
    str | None,
    typer.Argument(help="A Hugging Face directory or a .gguf file; none for the default model.", show_default=False),
]


def main() -> None:
    """The entry point: what was raised on purpose is told in one line."""
    try:
        app()
    except InvalidRequest as error:
        _fail(str(error), 2)
    except ForktreeRuntimeError as error:
        _fail(str(error), 1)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=lambda value: _version(value))
    ] = False,
) -> None:
    pass


def _version(wanted: bool) -> None:
    if wanted:
        import forktree

        typer.echo(f"forktree {forktree.__version__}")
        raise typer.Exit


@app.command()
def serve(
    model: ModelArgument = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = ServerConfig.host,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = ServerConfig.port,
    served_model_name: Annotated[str | None, typer.Option(help="Name of the model for clients.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(help="How long running requests may go on after SIGTERM.")
    ] = ServerConfig.drain_seconds,
    max_body_bytes: Annotated[int, typer.Option(help="Largest request body.")] = ServerConfig.max_body_bytes,
    context_length: Annotated[
        int | None, typer.Option(help="Tokens of prompt and output of one request at most; default: the model's.")
    ] = EngineConfig.context_length,
    max_running_requests: Annotated[
        int, typer.Option(help="Requests that hold pages at one time.")
    ] = EngineConfig.max_running_requests,
    max_queued_requests: Annotated[
        int, typer.Option(help="Requests that wait; one more is refused.")
    ] = EngineConfig.max_queued_requests,
    kv_cache_bytes: Annotated[int, typer.Option(help="Memory of the KV pool.")] = EngineConfig.kv_cache_bytes,
    num_pages: Annotated[
        int | None, typer.Option(help="Pages of the KV pool; default: as many as fit in --kv-cache-bytes.")
    ] = EngineConfig.num_pages,
    page_size: Annotated[int, typer.Option(help="Tokens a page.")] = EngineConfig.page_size,
    step_tokens: Annotated[int, typer.Option(help="Token budget of one step.")] = EngineConfig.step_tokens,
    prefill_chunk: Annotated[
        int | None, typer.Option(help="Tokens of one prefill in one step; default: the whole budget.")
    ] = EngineConfig.prefill_chunk,
    policy: Annotated[str, typer.Option(help="lpm, dfs or fcfs: what enters a step first.")] = EngineConfig.policy,
    grammar_backend: Annotated[
        str, typer.Option(help="forktree or outlines: what compiles constraints.")
    ] = EngineConfig.grammar_backend,
    prefix_cache: Annotated[bool, typer.Option(help="Reuse shared prefixes.")] = EngineConfig.prefix_cache,
    overlap: Annotated[bool, typer.Option(help="Plan steps while the device runs.")] = EngineConfig.overlap,
    jump_forward: Annotated[
        bool, typer.Option(help="Write what a constraint forces without sampling it.")
    ] = EngineConfig.jump_forward,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = EngineConfig.dtype,
    attention: Annotated[str, typer.Option(help="cpu or reference.")] = EngineConfig.attention,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: all cores.")] = EngineConfig.threads,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Serve a model over HTTP: OpenAI's and SGLang's endpoints."""
    settings: dict[str, Any] = {
        "context_length": context_length,
        "max_running_requests": max_running_requests,
        "max_queued_requests": max_queued_requests,
        "kv_cache_bytes": kv_cache_bytes,
        "num_pages": num_pages,
        "page_size": page_size,
        "step_tokens": step_tokens,
        "prefill_chunk": prefill_chunk,
        "policy": policy,
        "grammar_backend": grammar_backend,
        "prefix_cache": prefix_cache,
        "overlap": overlap,
        "jump_forward": jump_forward,
        "dtype": dtype,
        "attention": attention,
        "threads": threads,
    }
    EngineConfig.from_dict(settings)  # said now, not after the model is loaded
    try:
        config = ServerConfig(
            host=host,
            port=port,
            served_model_name=served_model_name,
            drain_seconds=drain_seconds,
            max_body_bytes=max_body_bytes,
        )
    except ValueError as error:
        _fail(str(error), 2)
    if model is not None and not Path(model).expanduser().exists():
        _fail(f"{model}: no such file or directory; give a Hugging Face directory, a .gguf file, or nothing", 1)
    _choose("log-level", log_level, ("debug", "info", "warning", "error"))
    _choose("log-format", log_format, ("text", "json"))
    _need_engine()

    from forktree.runtime import Engine
    from forktree.runtime.observe.logs import configure
    from forktree.runtime.server import serve as run_server

    configure(log_level, "json" if log_format == "json" else "text")
    if host not in LOOPBACK:
        typer.echo(f"forktree: listening on {host} without authentication: whoever reaches it can use it", err=True)
    try:
        run_server(config, lambda: Engine(model, **settings), _say_ready)
    except OSError as error:
        _fail(f"can't listen on {host}:{port}: {error.strerror or error}; choose another with --port", 1)


def _say_ready(server: Server, engine: ServingEngine) -> None:
    """One screen: what is served, with how much room, where, and a line to try."""
    import forktree

    info, url = engine.info, server.address
    if info.chat_format is not None or info.chat_template is not None:
        path, question = (
            "/v1/chat/completions",
            '{"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32}',
        )
    else:
        path, question = "/v1/completions", '{"prompt": "Once upon a time", "max_tokens": 32}'
    tokens = info.num_pages * info.page_size
    typer.echo(
        f"forktree {forktree.__version__} serves {server.service.model_name}\n"
        f"  model    {info.model_path}\n"
        f"  memory   {info.num_pages:,} pages of {info.page_size} = {tokens:,} tokens; "
        f"context {info.context_length:,} tokens\n"
        f"  address  {url}\n"
        f"  try      curl {url}{path} -H 'Content-Type: application/json' -d '{question}'"
    )
    sys.stdout.flush()


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    file: Annotated[Path, typer.Argument(help="A Python file of programs.", show_default=False)],
    args: Annotated[
        list[str] | None,
        typer.Argument(help="What the file finds in sys.argv: all that follows it, options too.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model for its programs; none for the default model.")] = None,
    url: Annotated[str | None, typer.Option(help="Run them on this server instead.")] = None,
) -> None:
    """Run a file of programs, with a backend set for it; one that sets its own is welcome.  Options go before FILE."""
    _check_backend(model, url)
    if not file.is_file():
        _fail(f"{file}: no such file", 2)
    import forktree

    backend = _backend(model, url)
    forktree.set_default_backend(backend)
    try:
        _run_file(file, args or [])
    finally:
        if (model is not None or url is not None) and not backend.used:
            option = "--model" if model is not None else "--url"
            typer.echo(
                f"forktree: nothing ran on {option}: {file} ran no program, or on a backend of its own", err=True
            )
        backend.close()


@app.command()
def explain(
    program: Annotated[str, typer.Argument(help="module:program, or path/to/file.py:program.", show_default=False)],
    arg: Annotated[
        list[str] | None,
        typer.Option(help="name=value, JSON or else text; once for each argument.  What is left out stays open."),
    ] = None,
    analyze: Annotated[bool, typer.Option("--analyze", help="Run it too, and show both side by side.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one HTML page that draws it.")] = None,
    model: Annotated[str | None, typer.Option(help="Model whose tokens count; none for the default model.")] = None,
    url: Annotated[str | None, typer.Option(help="Take the model of this server instead.")] = None,
) -> None:
    """Show which tokens a program's model calls share, and what each of them computes."""
    _check_backend(model, url)
    from forktree.lang import BackendError, ProgramError

    from .explain_command import WrongUse
    from .explain_command import explain as explain_program

    backend = _backend(model, url)
    try:
        explain_program(program, arg or [], backend=backend, analyze=analyze, as_json=json, html=html, say=typer.echo)
    except WrongUse as error:
        _fail(str(error), 2)
    except (BackendError, ProgramError) as error:
        _fail(str(error), 1)
    finally:
        backend.close()


@app.command()
def grammar(
    file: Annotated[Path, typer.Argument(help="A JSON Schema, a regex, a grammar or a tag.", show_default=False)],
    kind: Annotated[
        str | None,
        typer.Option(help="json-schema, regex, lark, gbnf or structural-tag; default: by the file's suffix."),
    ] = None,
    text: Annotated[str, typer.Option(help="What an output begins with.")] = "",
    token: Annotated[str | None, typer.Option(help="Why this may or may not come next.")] = None,
) -> None:
    """Show what a constraint allows after a text, why it forbids another, and what compiling it took."""
    from .grammar_command import KINDS, explain_grammar, kind_of

    kind = kind or kind_of(file)
    _choose("kind", kind, KINDS)
    _need_engine()
    if not file.is_file():
        _fail(f"{file}: no such file", 2)
    from forktree.grammar import GrammarError

    try:
        constraint = file.read_text(encoding="utf-8")
        with _progress() as show:
            warm = partial(show, "compiling the grammar's loops")
            fits = explain_grammar(constraint, kind, prefix=text, token=token, say=typer.echo, progress=warm)
    except (GrammarError, UnicodeDecodeError) as error:
        _fail(f"{file}: {error}", 1)
    if not fits:
        raise typer.Exit(1)


@app.command()
def warmup() -> None:
    """Compile whatever a server would compile on its first start: half a minute, once."""
    _need_engine()
    from forktree.grammar import warmup as warm_grammar
    from forktree.runtime.kernels.cpu import CpuKernels

    with _progress() as show:
        CpuKernels().warmup(partial(show, "compiling the model's kernels"))
        warm_grammar(partial(show, "compiling the grammar's loops"))
    typer.echo("ready")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """Bars on the terminal's error stream, one for each thing that is reported, gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=fraction)

        yield show


def _check_backend(model: str | None, url: str | None) -> None:
    if model is not None and url is not None:
        _fail("give --model or --url, not both", 2)
    if model is not None and not Path(model).expanduser().exists():
        _fail(f"--model: {model}: no such file or directory; give a Hugging Face directory or a .gguf file", 2)
    if url is not None and not url.startswith(("http://", "https://")):
        _fail(f"--url: got {url!r}, wanted something like http://localhost:30000", 2)


def _backend(model: str | None, url: str | None) -> Any:
    """A server, or an engine that starts when something is asked of it."""
    import forktree
    from forktree.lang.backends.local import BackendOnFirstUse

    return forktree.RuntimeEndpoint(url) if url is not None else BackendOnFirstUse(lambda: _started_engine(model))


def _started_engine(model: str | None) -> Any:
    if missing := _missing_modules():
        from forktree.lang import BackendUnavailable

        raise BackendUnavailable(missing)
    from forktree.runtime import Engine

    return Engine(model)


def _run_file(file: Path, args: list[str]) -> None:
    """As `python FILE ARGS` would: its folder comes first on the path, its name is __main__, its errors are its own."""
    import runpy

    sys.argv = [str(file), *args]
    sys.path.insert(0, str(file.resolve().parent))
    try:
        runpy.run_path(str(file), run_name="__main__")
    except Exception as error:
        sys.stderr.write(_as_the_file_sees_it(error))
        raise SystemExit(1) from None


def _as_the_file_sees_it(error: Exception) -> str:
    """The traceback without the frames of this command; without any of ours where the error is no bug of ours."""
    import traceback

    from forktree.lang import BackendError, ProgramError

    ours = str(Path(__file__).parent)
    on_the_way = (__file__, "runpy.py", "<frozen runpy>")
    shown = traceback.TracebackException.from_exception(error)
    on_purpose = isinstance(error, (ProgramError, BackendError, ForktreeRuntimeError))
    each: traceback.TracebackException | None = shown
    while each is not None:
        frames = [frame for frame in each.stack if not frame.filename.endswith(on_the_way)]
        if on_purpose or (frames and not frames[-1].filename.startswith(ours)):
            frames = [frame for frame in frames if not frame.filename.startswith(ours)]
        each.stack = traceback.StackSummary.from_list(frames)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    if not shown.stack and shown.__cause__ is None:  # a SyntaxError says itself where it is
        return "".join(shown.format_exception_only())
    return "".join(shown.format())


@app.command()
def fetch(model: ModelArgument = None) -> None:
    """Find a model and convert it into the cache, so that the first start is quick."""
    _need_engine()
    from forktree.runtime.models import resolve_model

    with _progress() as show:
        files = resolve_model(model, on_progress=show)
    typer.echo(f"{files.name}: {files.directory}")


def _missing_modules() -> str:
    """What to tell a user without the engine extra; empty if everything is there."""
    missing = [name for name in ENGINE_MODULES if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"running a model needs {', '.join(missing)}, not installed here. Install it:\n\n    {INSTALL_ENGINE}\n"


def _need_engine() -> None:
    if missing := _missing_modules():
        _fail(missing, 1)


def _choose(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        _fail(f"--{name}: got {value!r}, wanted one of {', '.join(allowed)}", 2)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"forktree: {message}", err=True)
    raise SystemExit(code)
