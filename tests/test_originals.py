"""Packing ImageNet's original tar files."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from noise import contents, encoded, noise

from shared.errors import UserError
from shared.labels import imagenet_wordnet_ids
from trainer.config import DataConfig
from trainer.data import open_data, open_for_evaluation
from trainer.packing.pack import Settings, pack


def tar_of(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, Path]:
    """Two classes of ImageNet as its original tar files, and the same as folders."""
    from scipy.io import savemat

    tars, folders = tmp_path_factory.mktemp("tars"), tmp_path_factory.mktemp("folders")
    wordnet_ids = imagenet_wordnet_ids()[3:5]
    inner = {}
    for wordnet_id in wordnet_ids:
        files = {f"{wordnet_id}_{i}.JPEG": encoded(noise(i)) for i in (10, 2, 7)}
        tar_of(tars / "inner", files)
        inner[f"{wordnet_id}.tar"] = (tars / "inner").read_bytes()
        (folders / "train" / wordnet_id).mkdir(parents=True)
        (folders / "val" / wordnet_id).mkdir(parents=True)
        for name, data in files.items():
            (folders / "train" / wordnet_id / name).write_bytes(data)
    (tars / "inner").unlink()
    tar_of(tars / "ILSVRC2012_img_train.tar", inner)
    truth = [2, 1, 2, 2]
    val = {f"ILSVRC2012_val_{i:08}.JPEG": encoded(noise(50 + i)) for i in (3, 1, 2, 4)}
    tar_of(tars / "ILSVRC2012_img_val.tar", val)
    for name, data in val.items():
        (folders / "val" / wordnet_ids[truth[int(name[15:23]) - 1] - 1] / name).write_bytes(data)
    meta = io.BytesIO()
    synsets = np.array(
        [(1, wordnet_ids[0], "x"), (2, wordnet_ids[1], "y")],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)],
    )
    savemat(meta, {"synsets": synsets})
    tar_of(
        tars / "ILSVRC2012_devkit_t12.tar.gz",
        {
            "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode(),
            "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        },
    )
    return tars, folders


def test_imagenets_original_tars_and_folders_give_the_same_shards(original, tmp_path):
    tars, folders = original
    pack(tars, tmp_path / "from_tars", Settings(), num_processes=1)
    pack(folders, tmp_path / "from_folders", Settings(), num_processes=1)
    assert contents(tmp_path / "from_tars") == contents(tmp_path / "from_folders")
    data = open_data(DataConfig(source="shards", path=str(tmp_path / "from_tars")))
    assert len(data.train.classes) == 1000
    assert data.val.labels.tolist() == [3, 4, 4, 4]


def test_imagenets_validation_pictures_need_their_classes(original, tmp_path):
    shutil.copy(original[0] / "ILSVRC2012_img_val.tar", tmp_path)
    with pytest.raises(UserError, match=r"does not say which class .* put ILSVRC2012_devkit_t12.tar.gz there"):
        pack(tmp_path, tmp_path / "target", Settings(), num_processes=1)
    wordnet_ids = imagenet_wordnet_ids()
    (tmp_path / "labels.txt").write_text("\n".join([wordnet_ids[4], wordnet_ids[3], wordnet_ids[4], wordnet_ids[4]]))
    pack(tmp_path, tmp_path / "target", Settings(), num_processes=1)
    samples = open_for_evaluation(DataConfig(source="shards", path=str(tmp_path / "target")), None)
    assert samples.labels.tolist() == [3, 4, 4, 4]
