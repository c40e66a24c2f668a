"""State dicts into networks: every layout finds its place, everything else is named."""

import pytest
import torch
from published import ARCHITECTURES, assert_same, mirror_state, official_state, trained_like

from shared.errors import UserError
from shared.models import create_model
from trainer.importing import files
from trainer.importing.fitting import fit


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layout", ["official", "official, old", "mirror"])
def test_published_layouts_give_the_outputs_of_the_network_they_came_from(architecture, layout):
    model = trained_like(architecture, width=0.125)
    if layout == "mirror":
        state = mirror_state(model, architecture)
        assert all(name.startswith(("features.", "output.")) for name in state)
    else:
        state = official_state(model, architecture, counters=layout == "official")
    assert_same(fit(state, architecture, "file", width=0.125)[0], model)


def test_resnet18_weights_load_strictly_into_drn_a_18():
    resnet = trained_like("resnet18")
    drn, classes = fit(resnet.state_dict(), "drn_a_18", "file")
    assert classes == 1000
    assert all(torch.equal(value, resnet.state_dict()[key]) for key, value in drn.state_dict().items())


def test_torchvisions_vgg_becomes_timms():
    import torchvision

    vgg = torchvision.models.vgg11(num_classes=3).eval()
    ours, classes = fit(vgg.state_dict(), "vgg11", "file")
    assert classes == 3
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), vgg(images), rtol=1e-4, atol=1e-5)  # a convolution for a product


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_may_be_missing(name):
    state = {k: v for k, v in create_model(name).state_dict().items() if not k.lower().startswith("aux")}
    assert fit(state, name, "file")[1] == 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("layer3.0.bn1.weight"),
            r"file \(181 tensors\) is no drn_c_26: 1 missing \(first layer3",
        ),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(first extra\)"),
        (lambda s: s.update({"bn1.weight": torch.ones(7)}), r"1 of another shape \(first bn1\.weight: 7 for 2\)"),
        (
            lambda s: s.update({"fc.weight": torch.ones(5, 4, 1, 1)}),
            r"fc\.weight: 5 x 4 x 1 x 1 for classes x 64",
        ),
    ],
)
def test_what_differs_is_named(change, message):
    state = create_model("drn_c_26", width=0.125).state_dict()
    change(state)
    with pytest.raises(UserError, match=message):
        fit(state, "drn_c_26", "file", width=0.125)


def test_the_architecture_that_would_fit_is_named():
    with pytest.raises(UserError, match=r"is no drn_c_26: .*; it fits drn_c_42$"):
        fit(create_model("drn_c_42", width=0.125).state_dict(), "drn_c_26", "file", width=0.125)


@pytest.mark.parametrize("wrapping", [{"module.": None}, {"": "state_dict"}, {"_orig_mod.module.": "model"}])
def test_wrappings_of_training_scripts_are_taken_off(tmp_path, wrapping):
    [(prefix, key)] = wrapping.items()
    state = {f"{prefix}a": torch.ones(2), f"{prefix}b": torch.zeros(1)}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "x.pth")
    assert list(files.read(tmp_path / "x.pth")) == ["a", "b"]
