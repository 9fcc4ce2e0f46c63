"""The HTTP application: which path leads where.  How it starts and stops is in lifecycle.py.

Imported by the command line, through `forktree.runtime.server`; aiohttp lives in this package only.
"""

from __future__ import annotations

from aiohttp import web

from . import info, native, openai, programs, tokenize
from .http import SERVICE, add_headers, around
from .service import Service


def make_app(service: Service) -> web.Application:
    """Every route of the server around one service."""
    app = web.Application(middlewares=[around], client_max_size=service.config.max_body_bytes)
    app[SERVICE] = service
    app.on_response_prepare.append(add_headers)
    app.add_routes(
        [
            web.get("/health", info.health),
            web.get("/ready", info.ready),
            web.get("/health_generate", info.health_generate),
            web.get("/metrics", info.metrics),
            web.get("/version", info.get_version),
            # OpenAI's
            web.get("/v1/models", openai.list_models),
            web.get("/v1/models/{model:.+}", openai.get_model),
            web.post("/v1/completions", openai.completions),
            web.post("/v1/chat/completions", openai.chat_completions),
            # whole programs
            web.post("/v1/programs", programs.run),
            web.post("/v1/programs/{id}/abort", programs.abort),
            # SGLang's, and /score, /tokenize
            web.post("/generate", native.generate),
            web.put("/generate", native.generate),
            web.post("/score", native.score),
            web.post("/tokenize", tokenize.tokenize),
            web.get("/model_info", info.model_info),
            web.get("/get_model_info", info.model_info),
            web.get("/server_info", info.server_info),
            web.get("/get_server_info", info.server_info),
            web.post("/flush_cache", info.flush_cache),
            web.get("/flush_cache", info.flush_cache),
            web.post("/abort_request", info.abort_request),
        ]
    )
    return app
