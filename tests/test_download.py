"""Downloads: resumed, checked, and never half there."""

import hashlib
import json
import multiprocessing
import os

import pytest
from file_server import file_server

from shared.errors import UserError
from trainer.importing import download as module
from trainer.importing.download import download

CONTENT = bytes(range(256)) * 4000  # about a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "RETRY_WAIT_S", 0.0)
    with file_server() as running:
        running.files["net.pth"] = CONTENT
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "checkpoints" / "net.pth"


def left(target) -> list[str]:
    return sorted(os.listdir(target.parent))


def test_a_file_arrives_under_its_name_and_nothing_else_stays(server, target):
    download(server.url("net.pth"), target, checksum=SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert left(target) == ["net.pth"]


def test_a_file_that_is_there_and_right_is_not_fetched_again(server, target):
    for _ in range(2):
        download(server.url("net.pth"), target, checksum=SHA256)
    assert len(server.requests) == 1


def test_a_file_that_is_there_and_wrong_is_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:100])
    download(server.url("net.pth"), target, checksum=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_broke_off(server, target):
    server.cut_after, server.cuts_left = 400_000, 1
    download(server.url("net.pth"), target)
    assert target.read_bytes() == CONTENT
    assert "Range" not in server.requests[0]
    assert int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert server.requests[1]["If-Range"] == '"1"'


def test_a_transfer_that_keeps_breaking_is_gone_on_with_by_the_next_command(server, target):
    server.cut_after = 150_000
    with pytest.raises(UserError, match=r"broke off: got [\d,]+ of 1,024,000 bytes; run the command again to go on"):
        download(server.url("net.pth"), target, checksum=SHA256)
    assert left(target) == ["net.pth.partial", "net.pth.partial.json"]
    there = (target.parent / "net.pth.partial").stat().st_size
    assert 0 < there < len(CONTENT)

    server.cut_after = None
    download(server.url("net.pth"), target, checksum=SHA256)
    assert server.requests[-1]["Range"] == f"bytes={there}-"
    assert target.read_bytes() == CONTENT
    assert left(target) == ["net.pth"]


def test_a_file_that_changed_in_between_is_fetched_from_its_beginning(server, target):
    server.cut_after = 150_000
    with pytest.raises(UserError, match="broke off"):
        download(server.url("net.pth"), target)
    server.cut_after, server.etag = None, '"2"'
    server.files["net.pth"] = CONTENT[::-1]
    download(server.url("net.pth"), target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_that_ignores_ranges_sends_the_file_from_its_beginning(server, target):
    server.cut_after, server.cuts_left, server.honours_range = 400_000, 1, False
    download(server.url("net.pth"), target)
    assert target.read_bytes() == CONTENT


def test_a_partial_file_that_was_complete_already_is_taken(server, target):
    target.parent.mkdir()
    (target.parent / "net.pth.partial").write_bytes(CONTENT)
    download(server.url("net.pth"), target, checksum=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_names_both_digests_and_leaves_nothing(server, target):
    with pytest.raises(UserError, match=f"should begin with 0123abcd, but its sha256 is {SHA256}"):
        download(server.url("net.pth"), target, checksum="0123abcd")
    assert left(target) == []


def test_a_missing_file_is_answered_with_address_and_status(server, target):
    with pytest.raises(UserError, match=r"/other\.pth: the server answers 404 Not Found; .* as SOURCE"):
        download(server.url("other.pth"), target)
    assert left(target) == []


def test_a_busy_server_is_asked_again(server, target):
    server.statuses = [503, 429]
    download(server.url("net.pth"), target, checksum=SHA256)
    assert len(server.requests) == 3


def test_no_connection_is_named_at_once(target):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/net\.pth cannot be fetched \(.*refused\)"):
        download("http://127.0.0.1:9/net.pth", target)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/net\.pth cannot be written .* set TORCH_HOME"):
        download(server.url("net.pth"), tmp_path / "file" / "net.pth")


def test_passwords_and_queries_are_not_shown(server, target):
    secret = server.url("other.pth").replace("http://", "http://me:hunter2@") + "?token=hunter3"
    with pytest.raises(UserError) as error:
        download(secret, target)
    assert "hunter" not in str(error.value)


def test_processes_that_fetch_the_same_file_take_turns(server, target):
    spawn = multiprocessing.get_context("fork")
    processes = [
        spawn.Process(target=download, args=(server.url("net.pth"), target), kwargs={"checksum": SHA256})
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=20)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert left(target) == ["net.pth"]


def test_what_is_noted_beside_a_partial_file_is_no_secret(server, target):
    server.cut_after = 150_000
    with pytest.raises(UserError, match="broke off"):
        download(server.url("net.pth") + "?token=hunter2", target)
    assert json.loads((target.parent / "net.pth.partial.json").read_text()) == {
        "url": server.url("net.pth"),
        "validator": '"1"',
    }
