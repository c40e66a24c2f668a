"""Where checkpoints go is tried before a training starts, and nothing of it stays."""

import pytest
from object_store import object_store

from shared.errors import UserError
from trainer.launch import storage


def test_a_folder_that_does_not_exist_can_be_written_and_does_not_exist_afterwards(tmp_path):
    storage.check(str(tmp_path / "some" / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_stays_with_what_it_holds(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").touch()
    storage.check(str(tmp_path / "runs"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"run.storage_path={tmp_path}/file/runs cannot be written \(.+\); choose"):
        storage.check(str(tmp_path / "file" / "runs"))


def test_an_address_of_an_unknown_kind_is_named():
    with pytest.raises(UserError, match=r"run.storage_path=floppy://a/runs cannot be written"):
        storage.check("floppy://a/runs")


def test_an_object_store_is_written_and_keeps_nothing():
    import boto3

    with object_store() as store:
        client = boto3.client("s3", endpoint_url=store.address)
        client.create_bucket(Bucket="there")
        storage.check("s3://there/some/runs")
        assert client.list_objects_v2(Bucket="there")["KeyCount"] == 0
        with pytest.raises(UserError, match=r"run.storage_path=s3://missing/runs cannot be written"):
            storage.check("s3://missing/runs")
