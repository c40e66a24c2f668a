"""The routes: the page at /, the state of the service at /healthz."""

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from demo.limits import LimitBody
from demo.page import build_page
from demo.serving import Serving, State, describe
from demo.theme import CSS, theme
from demo.upload import MAX_FILE_BYTES


def create_app(serving: Serving, *, mlflow_ui: str | None, scratch: Path) -> FastAPI:
    """The page at / and the state of the service at /healthz.

    Args:
        mlflow_ui: address that the page links runs to.
        scratch: a private folder for the example pictures; the caller removes it.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        return health(serving.state)

    blocks = build_page(serving, mlflow_ui=mlflow_ui, scratch=scratch)
    blocks.queue(api_open=False, max_size=64)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=theme(),
        css=CSS,
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=MAX_FILE_BYTES,
        ssr_mode=False,
    )
    app.add_middleware(LimitBody, max_bytes=MAX_FILE_BYTES + 1_000_000)
    return app


def health(state: State) -> dict[str, Any]:
    served = state.served
    return {
        "status": "serving" if served else "waiting for a registered version",
        "model": describe(served) if served else None,
        "version": served.version.uri if served and served.version else None,
        "architecture": served.card.architecture if served else None,
        "loaded_at": state.loaded_at.isoformat() if state.loaded_at else None,
        "registry": "unreachable" if state.unreachable_since else "ok",
    }
