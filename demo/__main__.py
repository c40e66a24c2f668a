"""`python -m demo`: serves the newest registered network to a browser, and follows the registry."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo.preflight import check_port, check_store
from shared.errors import UserError
from shared.store import shown_tracking_uri, tracking_uri


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m demo",
        description="Classify pictures with the newest registered network and see gridding in DRN-A, B and C.",
        epilog="Versions are read from MLFLOW_TRACKING_URI (default: mlflow.db in the checkout).",
    )
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    p.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    p.add_argument(
        "--model",
        help="models:/name@alias, models:/name/3, a run id, or an architecture such as drn_c_26 for random weights; "
        "default: the newest registered version, followed automatically",
    )
    p.add_argument("--mlflow-ui", type=int, metavar="PORT", help="also serve the MLflow UI on 127.0.0.1:PORT")
    p.add_argument("--dry-run", action="store_true", help="check ports and registry, and exit")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    options = parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _check(options)
        if options.dry_run:
            _say(f"ready to serve on http://{options.host}:{options.port} from {shown_tracking_uri()}")
        else:
            _serve(options, started)
    except UserError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("stopped")
    return 0


def _check(options: argparse.Namespace) -> None:
    check_port(options.host, options.port, "--port")
    if _starts_ui(options):
        check_port("127.0.0.1", options.mlflow_ui, "--mlflow-ui")
    check_store()


def _serve(options: argparse.Namespace, started: float) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("demo").setLevel(logging.INFO)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="degrid-demo-")))
        os.environ["GRADIO_TEMP_DIR"] = str(scratch / "gradio")  # read when components are made
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # started first: it needs as long to come up as the imports below
        ui = None
        if _starts_ui(options):
            from demo.mlflow_ui import MlflowUi

            ui = stack.enter_context(MlflowUi(options.mlflow_ui)).address

        import uvicorn

        from demo.app import create_app
        from demo.header import safe_ui_address
        from demo.serving import Serving

        serving = Serving(options.model)
        serving.start()
        stack.callback(serving.stop)
        ui = ui or safe_ui_address(tracking_uri())
        app = create_app(serving, mlflow_ui=ui, scratch=scratch)

        class Announcing(uvicorn.Server):
            async def startup(self, sockets: list | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    _say(f"\ndemo    http://{options.host}:{options.port}")
                    _say(f"MLflow  {ui or 'no UI; --mlflow-ui 5000 starts one'}")
                    _say(f"up after {time.monotonic() - started:.0f} s; Ctrl-C ends it\n")

        # open pages hold a connection for ever
        config = uvicorn.Config(
            app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=2
        )
        Announcing(config).run()


def _starts_ui(options: argparse.Namespace) -> bool:
    """A tracking URI that is a server has its own UI already."""
    return options.mlflow_ui is not None and not tracking_uri().startswith(("http://", "https://"))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
