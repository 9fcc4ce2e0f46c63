"""What a server may be told: ServerConfig, frozen, checked once; messages name the field.

Here: address, limits, times.  Not here: the engine's settings (runtime/config.py).  Loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

DEFAULT_PORT = 30000  # SGLang's, so that its programs find us unchanged


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the HTTP side.

    host, port            where it listens; port 0 takes a free one
    served_model_name     the name clients use for the model; None: the model's own
    max_body_bytes        larger request bodies are refused with 413
    max_choices           `n` at most
    max_prompts           prompts in one request at most; prompts x n is held to it as well
    drain_seconds         how long running requests may go on after SIGTERM
    body_seconds          a request body must have arrived by then, else 408
    stall_seconds         a client that reads nothing for so long is cut off
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    served_model_name: str | None = None
    max_body_bytes: int = 16 * 2**20
    max_choices: int = 128
    max_prompts: int = 2048
    drain_seconds: float = 30.0
    body_seconds: float = 30.0
    stall_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host: got an empty string, wanted an address such as 127.0.0.1")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port: got {self.port}, wanted 0 to 65535")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("max_") and value < 1:
                raise ValueError(f"{field.name}: got {value}, wanted at least 1")
            if field.name.endswith("_seconds") and value < 0:
                raise ValueError(f"{field.name}: got {value}, wanted 0 or more")
