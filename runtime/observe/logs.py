"""Logs: stdlib logging under `forktree`, one line per request, never a prompt or an output.

Here: the handler the command line installs, and the request line.  A library user who does not call `configure` gets no
handler from us; the root logger is never touched.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal

requests = logging.getLogger("forktree.server.requests")


class JsonFormatter(logging.Formatter):
    """One JSON object per line; the fields of a request line become its keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str = "info", format: Literal["text", "json"] = "text") -> None:
    """Send everything under `forktree` to stderr. Called by the command line, once."""
    logger = logging.getLogger("forktree")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if format == "json" else text)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def log_request(fields: Mapping[str, Any]) -> None:
    """One line, `POST /generate 200 id=... ttft_ms=...`. Values are ours or checked ids, so a line stays a line."""
    if not requests.isEnabledFor(logging.INFO):
        return
    first = " ".join(str(fields[name]) for name in ("method", "route", "status"))
    rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("method", "route", "status"))
    requests.info("%s %s", first, rest, extra={"fields": dict(fields)})
