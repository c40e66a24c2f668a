"""The networks against the paper's tables and timm's interface."""

import pytest
import timm
import torch

from shared.errors import UserError
from shared.models import ARCHITECTURES, class_maps, create_model, describe, max_dilation, output_stride

# parameters and GMACs (convolutions and linear layers, 224 px, 1000 classes), measured on the published code
PUBLISHED = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "drn_a_18": (11_689_512, 9.21),
    "drn_a_34": (21_797_672, 17.31),
    "drn_a_50": (25_557_032, 19.08),
    "drn_a_101": (44_549_160, 33.93),
    "drn_b_26": (21_126_584, 16.97),
    "drn_c_26": (21_126_584, 16.97),
    "drn_c_42": (31_234_744, 25.06),
    # the published C-58 has 1,049,600 parameters more, in a projection that is computed and thrown away
    "drn_c_58": (41_591_608 - 1_049_600, 32.42),
    "drn_d_22": (16_393_752, 13.03),
    "drn_d_24": (21_114_392, 16.73),
    "drn_d_38": (26_501_912, 21.13),
    "drn_d_40": (31_222_552, 24.83),
    "drn_d_54": (35_809_176, 28.49),
    "drn_d_56": (40_529_816, 32.19),
    "drn_d_105": (54_801_304, 43.34),
    "drn_d_107": (59_521_944, 47.04),
}
DRNS = [name for name in ARCHITECTURES if name.startswith("drn")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_gmacs_equal_the_published_ones(name):
    description = describe(name)
    assert (description.params, description.gmacs) == PUBLISHED[name]


def test_every_architecture_but_resnet152_has_a_published_size():
    assert set(ARCHITECTURES) - set(PUBLISHED) == {"resnet152"}


@pytest.mark.parametrize("name", DRNS)
def test_drn_accepts_any_input_size_and_keeps_an_eighth_of_it(name):
    model = create_model(name, num_classes=5, width=0.125).eval()
    images = torch.randn(2, 3, 75, 97)
    with torch.no_grad():
        assert model(images).shape == (2, 5)
        assert class_maps(model, images).shape == (2, 5, 10, 13)
    assert output_stride(model) == 8
    assert max_dilation(model) == 4


def test_mean_of_class_maps_is_the_logit():
    for name in ("resnet18", "drn_a_50", "drn_b_26", "drn_d_22"):
        model = create_model(name, num_classes=5, width=0.125).eval()
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            # float32 sums in another order
            torch.testing.assert_close(class_maps(model, images).mean((2, 3)), model(images), rtol=1e-4, atol=1e-5)


def test_without_pooling_a_drn_returns_class_maps():
    model = create_model("drn_c_26", num_classes=5, width=0.125).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = class_maps(model, images)
        model.global_pool = type(model.global_pool)(pool_type="", flatten=False)
        assert torch.equal(model(images), maps)


@pytest.mark.parametrize("size", [224, 225, 256])
def test_drn_a_18_with_resnet18_weights_equals_it_at_the_positions_that_a_stride_keeps(size):
    torch.manual_seed(0)
    resnet = create_model("resnet18").eval()
    drn_a = create_model("drn_a_18").eval()
    drn_a.load_state_dict(resnet.state_dict(), strict=True)
    with torch.no_grad():
        images = torch.randn(1, 3, size, size)
        strided, dense = resnet.forward_features(images), drn_a.forward_features(images)
    difference = (dense[..., ::4, ::4] - strided).norm() / strided.norm()
    assert difference < 1e-5  # the same sums in another order


def test_drn_b_and_c_differ_only_in_the_shortcuts_of_levels_7_and_8():
    torch.manual_seed(0)
    b, c = (create_model(name, width=0.125).eval() for name in ("drn_b_26", "drn_c_26"))
    c.load_state_dict(b.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(b(images), c(images))
        for level in (7, 8):
            for block in getattr(b, f"layer{level}"):
                block.conv1.weight.zero_()
                block.bn2.weight.zero_()
                block.bn2.bias.zero_()
        # with a dead residual branch a shortcut passes its input on: the levels become the identity
        before = torch.nn.Sequential(*list(b.children())[:9])(images)
        assert torch.equal(b.forward_features(images), before)


def test_dilations_of_drn_c_follow_the_table():
    model = create_model("drn_c_42")
    found = {
        level: {
            m.dilation[0] for m in getattr(model, f"layer{level}").modules() if getattr(m, "kernel_size", 0) == (3, 3)
        }
        for level in range(1, 9)
    }
    assert found == {1: {1}, 2: {1}, 3: {1}, 4: {1}, 5: {2}, 6: {4}, 7: {2}, 8: {1}}


@pytest.mark.parametrize("name", ["drn_a_18", "drn_c_26", "drn_d_22"])
def test_drn_is_a_good_timm_citizen(name):
    features = timm.create_model(name, features_only=True, width=0.125)
    maps = features(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == features.feature_info.channels()
    assert [64 // m.shape[-1] for m in maps] == features.feature_info.reduction()

    model = timm.create_model(name, num_classes=7, width=0.125)
    assert model.pretrained_cfg["classifier"] == "fc"
    assert model.get_submodule(model.pretrained_cfg["first_conv"]).in_channels == 3
    model.reset_classifier(4)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)
    model.reset_classifier(0)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, model.num_features)
    assert model.forward_head(torch.randn(2, model.num_features, 8, 8), pre_logits=True).shape == (
        2,
        model.num_features,
    )


@pytest.mark.parametrize("name", ["drn_a_18", "drn_c_26"])
def test_gradient_checkpointing_changes_no_gradient(name):
    model = create_model(name, num_classes=3, width=0.125)
    images = torch.randn(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images).sum().backward()
        gradients.append(model.conv1.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_width_scales_every_channel_count():
    for name in ("resnet18", "resnet50", "drn_a_34", "drn_c_42"):
        wide, narrow = (create_model(name, num_classes=10, width=w) for w in (1.0, 0.5))
        for (key, a), b in zip(wide.state_dict().items(), narrow.state_dict().values(), strict=True):
            assert all(x == y or x == 2 * y for x, y in zip(a.shape, b.shape, strict=True)), key


def test_unknown_architecture_is_answered_with_its_neighbours():
    with pytest.raises(UserError, match=r"unknown model 'drn_c_27'; did you mean .*drn_c_26"):
        create_model("drn_c_27")
