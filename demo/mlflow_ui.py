"""`mlflow server` as a companion of the demo: it ends with it, however the demo ends.

Run as a module it is the supervisor: it starts the server in a process group of its own and ends the whole group as
soon as its standard input closes, which the system does even for a demo that was killed.
"""

import os
import signal
import subprocess
import sys
from types import TracebackType

from shared.store import ROOT, tracking_uri

_END_S = 5


class MlflowUi:
    """Context manager around the server on 127.0.0.1:port."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "demo.mlflow_ui", tracking_uri(), str(port)]

    def __enter__(self) -> "MlflowUi":
        # a session of its own: Ctrl-C reaches the demo alone, which then closes the pipe
        self._supervisor = subprocess.Popen(self._command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        self._supervisor.wait(timeout=2 * _END_S)


def supervise(uri: str, port: str) -> None:
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", port, "--workers", "1", "--uvicorn-opts", "--log-level=warning"]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    sys.stdin.buffer.read()  # returns when the demo is gone
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=_END_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    supervise(*sys.argv[1:])
