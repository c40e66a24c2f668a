"""`python -m demo` from the outside: exit codes, messages, processes."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from demo_store import copy_of_empty, copy_of_trio, free_port, wait_until

from demo.__main__ import main


@pytest.fixture
def trio_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_trio(tmp_path))


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))


@pytest.mark.parametrize("reference", ["drn_c_27", "models:/nobody/1", "0" * 32])
@pytest.mark.usefixtures("trio_store")
def test_an_unknown_model_ends_with_one_line_and_exit_code_2(reference, capsys):
    assert main(["--model", reference, "--port", str(free_port())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reference in line


@pytest.mark.parametrize("option", ["--port", "--mlflow-ui"])
@pytest.mark.usefixtures("empty_store")
def test_a_port_in_use_ends_with_one_line_and_exit_code_2(option, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(free_port()), option, str(taken.getsockname()[1])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "in use" in line
    assert option in line


def test_an_unreachable_registry_ends_with_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{free_port()}")
    assert main(["--port", str(free_port())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached" in line
    assert "secret" not in line


def test_a_dry_run_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from demo.__main__ import main; "
        f"assert main(['--dry-run', '--port', '{free_port()}']) == 0; "
        "assert not {'torch', 'gradio', 'mlflow'} & set(sys.modules)"
    )
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("ready to serve")


@pytest.mark.slow
@pytest.mark.usefixtures("trio_store")
def test_the_mlflow_ui_ends_with_the_demo():
    demo_port, ui_port = free_port(), free_port()
    command = [sys.executable, "-m", "demo", "--port", str(demo_port), "--mlflow-ui", str(ui_port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: listens(ui_port) and listens(demo_port), seconds=90)
        process.terminate()
        _, said = process.communicate(timeout=20)
        wait_until(lambda: not processes_with(ui_port), seconds=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"demo    http://127.0.0.1:{demo_port}" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.usefixtures("empty_store")
def test_the_mlflow_ui_ends_even_with_a_demo_that_is_killed():
    port = free_port()
    code = f"from demo.mlflow_ui import MlflowUi; import time; MlflowUi({port}).__enter__(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: any("server" in line for line in processes_with(port)))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not processes_with(port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_with(port: int) -> list[list[str]]:
    """Command lines that name the port as an argument, the demo's own apart."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_text().split("\0"))
    return [line for line in found if str(port) in line]
