"""Training from weights that exist."""

import demo_store
import pytest
import torch
from recording import WORLD, Recorder, final_state, recipe

from shared.errors import UserError
from shared.models import create_model
from trainer import loop, transfer
from trainer import pretrained as sources


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A registered drn_c_26 of width 0.125 with four classes, in a store of its own."""
    with demo_store.environment("MLFLOW_TRACKING_URI", demo_store.copy_of_empty(tmp_path_factory.mktemp("store"))):
        yield demo_store.publish_tiny("drn_c_26", seed=5)


def transferred(colour_folder, version, *overrides: str):
    return sources.pin(recipe(colour_folder, f"model.pretrained={version.uri}", "run.epochs=1", *overrides))


def weights_of(version) -> dict[str, torch.Tensor]:
    from shared import registry

    return registry.load(version.uri).model.state_dict()


def test_a_pretrained_body_gets_a_new_head_for_the_classes_of_the_data(colour_folder, pretrained):
    config = transferred(colour_folder, pretrained)
    data = loop.open_data(config.data)
    model = loop.build_model(config, data, pretrained=True)
    before = weights_of(pretrained)
    assert model.fc.weight.shape[0] == 3 != before["fc.weight"].shape[0]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if "fc" not in key)


def test_a_head_for_the_same_classes_is_kept(colour_folder, pretrained):
    config = transferred(colour_folder, pretrained)
    model = create_model("drn_c_26", num_classes=4, width=0.125)
    transfer.load_pretrained(model, config, demo_store.CLASSES)
    assert torch.equal(model.fc.weight, weights_of(pretrained)["fc.weight"])


def test_frozen_stages_keep_weights_and_statistics_bit_for_bit(colour_folder, pretrained, tmp_path):
    config = transferred(colour_folder, pretrained, "model.freeze_stages=6")
    recorder = Recorder(tmp_path)
    loop.train(config, WORLD, recorder, "run")
    before, after = weights_of(pretrained), final_state(recorder).model
    changed = {key.split(".")[0] for key in before if key in after and not torch.equal(before[key], after[key])}
    assert changed == {"layer7", "layer8", "fc"}


def test_an_alias_is_pinned_to_the_version_it_stands_for(colour_folder, pretrained):
    config = recipe(colour_folder, f"model.pretrained=models:/{pretrained.name}@champion")
    assert sources.pin(config).model.pretrained == pretrained.uri


def test_weights_of_another_architecture_are_refused_with_the_first_difference(colour_folder, pretrained):
    message = r"models:/drn_c_26-four/1 \(\d+ tensors\) is no resnet18: .*; it fits drn_b_26 or drn_c_26"
    with pytest.raises(UserError, match=message):
        transferred(colour_folder, pretrained, "model.name=resnet18")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("models:/nothing/1", "no registered version 'models:/nothing/1'"),
        ("torchvision", r"no weights 'torchvision' for drn_c_26; there are: official, mirror"),
        ("/nowhere/weights.pth", "/nowhere/weights.pth"),
    ],
)
def test_a_source_that_does_not_exist_is_named_before_anything_starts(colour_folder, pretrained, source, message):
    with pytest.raises(UserError, match=message):
        sources.check(recipe(colour_folder, f"model.pretrained={source}"))


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(UserError, match=r"model.freeze_stages=9: DRN has 8 stages; lower it"):
        transfer.freeze(create_model("drn_c_26", width=0.125), 9)
    with pytest.raises(UserError, match=r"model.freeze_stages=9: ResNet has 4 stages"):
        transfer.freeze(create_model("resnet18"), 9)


def test_resnet_weights_start_a_drn_a(colour_folder, tmp_path):
    with demo_store.environment("MLFLOW_TRACKING_URI", demo_store.copy_of_empty(tmp_path)):
        version = demo_store.publish_tiny("resnet18")
        assert transferred(colour_folder, version, "model.name=drn_a_18").model.pretrained == version.uri
