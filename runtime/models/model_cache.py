"""Converted models on disk, each made once.

Here: where the cache is, what an entry is called, and how one appears whole or not at all.  Not here: what is in an
entry (gguf_convert.py, tokenizer_files.py).  An entry is named by the content of its source, so that the same file
installed twice is converted once; a small index from (path, size, time of change) to that name spares reading the
source again.  An entry is built in a directory of its own and renamed: two processes may build the same one, and the
second to finish takes the first one's.  It lists its files and their sizes, so one cut short is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ModelLoadError

_MANIFEST = "forktree.json"
_STALE_SECONDS = 24 * 3600.0


def default_cache_dir() -> Path:
    """$FORKTREE_CACHE, else $XDG_CACHE_HOME/forktree, else ~/.cache/forktree."""
    if os.environ.get("FORKTREE_CACHE"):
        return Path(os.environ["FORKTREE_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "forktree"


def cached_entry(root: Path, label: str, sources: Sequence[Path], version: int, build: Callable[[Path], None]) -> Path:
    """The directory made from `sources` by `build`, from the cache or built now.

    `label` only makes the name readable; `version` is the builder's: of another version, another entry."""
    models = root / "models"
    try:
        index = models / "index" / f"{_stat_key(sources, version)}.json"
        known = _indexed(models, index)
        if known is not None:
            return known
        entry = models / f"{_safe(label)}-{_content_key(sources, version)}"
    except OSError as error:
        raise ModelLoadError(
            error.filename or sources[0], f"can't be read: {error.strerror}", "Check the path and its permissions."
        ) from error
    try:
        if not _is_whole(entry):
            models.mkdir(parents=True, exist_ok=True)
            _build(models, entry, build)
    except OSError as error:
        raise ModelLoadError(
            error.filename or models,
            f"the converted model can't be written: {error.strerror or error}",
            "Free some space there, or point FORKTREE_CACHE at a directory that can be written.",
        ) from error
    with contextlib.suppress(OSError):  # a cache that is only read (in an image, say) is slower to search, no more
        _write_index(index, entry.name)
    return entry


def _indexed(models: Path, index: Path) -> Path | None:
    try:
        entry = models / Path(json.loads(index.read_text(encoding="utf-8"))["entry"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if _is_whole(entry) else None


def _is_whole(entry: Path) -> bool:
    """Whether every file of the entry's manifest is there in full."""
    try:
        sizes = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))["sizes"]
        return bool(sizes) and all((entry / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _build(models: Path, entry: Path, build: Callable[[Path], None]) -> None:
    _remove_stale(models)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=models))
    try:
        build(temporary)
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
        (temporary / _MANIFEST).write_text(json.dumps({"sizes": sizes}, indent=2), encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
        if entry.exists() and not _is_whole(entry):
            shutil.rmtree(entry, ignore_errors=True)
        try:
            temporary.rename(entry)
        except OSError:
            if not _is_whole(entry):  # else another process was quicker, and its copy is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_stale(models: Path) -> None:
    """What processes that were killed while building left behind."""
    for path in models.glob(".tmp-*"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another process is removing it


def _write_index(index: Path, name: str) -> None:
    index.parent.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=index.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"entry": name}, file)
    os.replace(temporary, index)


def _stat_key(sources: Sequence[Path], version: int) -> str:
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    return hashlib.blake2b(json.dumps([version, facts]).encode(), digest_size=16).hexdigest()


def _content_key(sources: Sequence[Path], version: int) -> str:
    digest = hashlib.blake2b(str(version).encode(), digest_size=10)
    for path in sources:
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _safe(label: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)
    return kept[:80].strip(".") or "model"
