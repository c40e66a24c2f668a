"""The networks against the paper's tables and timm's interface."""

import pytest
import timm
import torch

from shared.errors import UserError
from shared.models import (
    ARCHITECTURES,
    check_input,
    class_maps,
    create_model,
    describe,
    has_class_maps,
    max_dilation,
    output_stride,
)
from shared.models.zoo import input_size

# Parameters and GMACs (convolutions and linear layers, at the network's own input size and number of classes): those
# that torchvision and the papers state, and for DRN those of the published code
PUBLISHED = {
    "lenet5": (61_706, 0.000417),
    "convnet_mnist": (9_098, 0.00029),
    "alexnet": (61_100_840, 0.714),
    "vgg11": (132_863_336, 7.61),
    "vgg13": (133_047_848, 11.31),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.63),
    "googlenet": (6_624_904, 1.5),
    "inception_v3": (23_834_568, 5.71),  # at 299 px
    # He et al. 2015: 0.27, 0.46, 0.66, 0.85 and 1.7 million
    "cifar_resnet20": (269_722, 0.0406),
    "cifar_resnet32": (464_154, 0.0689),
    "cifar_resnet44": (658_586, 0.0972),
    "cifar_resnet56": (853_018, 0.125),
    "cifar_resnet110": (1_727_962, 0.253),
    "cifar_resnet_small": (195_738, 0.0288),
    # shortcuts of option A have no parameters
    "plain20": (269_722, 0.0406),
    "plain32": (464_154, 0.0689),
    "plain44": (658_586, 0.0972),
    "plain56": (853_018, 0.125),
    # the ResNets without the three projections on their shortcuts: 173,824 parameters
    "plain18": (11_689_512 - 173_824, 1.79),
    "plain34": (21_797_672 - 173_824, 3.64),
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
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


def test_every_architecture_has_a_published_size():
    assert set(ARCHITECTURES) == set(PUBLISHED)


def test_auxiliary_classifiers_have_their_published_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model("inception_v3").parameters()) == 27_161_264
        assert sum(p.numel() for p in create_model("googlenet").parameters()) == 13_004_888


@pytest.mark.parametrize(("name", "auxiliary"), [("inception_v3", 1), ("googlenet", 2)])
def test_auxiliary_classifiers_answer_in_training_alone(name, auxiliary):
    model = create_model(name, num_classes=7)
    images = torch.randn(2, 3, 299, 299)
    with torch.no_grad():
        assert [tuple(logits.shape) for logits in model(images)] == [(2, 7)] * (1 + auxiliary)
        assert model.eval()(images).shape == (2, 7)
    model.reset_classifier(3)
    with torch.no_grad():
        assert [tuple(logits.shape) for logits in model.train()(images)] == [(2, 3)] * (1 + auxiliary)


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if not n.startswith(("drn", "resnet", "vgg19", "vgg16"))])
def test_a_classic_network_speaks_timm(name):
    channels, side = input_size(name)
    images = torch.randn(1, channels, side, side)
    model = create_model(name, num_classes=7).eval()
    with torch.no_grad():
        assert model(images).shape == (1, 7)
        assert torch.equal(model.forward_head(model.forward_features(images)), model(images))
        model.reset_classifier(4)
        assert model(images).shape == (1, 4)
    features = timm.create_model(name, features_only=True)
    with torch.no_grad():
        assert [m.shape[1] for m in features.eval()(images)] == features.feature_info.channels()


def test_a_plain_network_is_not_silenced_by_the_initialisation_of_resnets():
    model = create_model("plain18", num_classes=3, width=0.125)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "conv" in name)


def test_a_plain_network_is_its_resnet_without_shortcuts():
    torch.manual_seed(0)
    plain, residual = (create_model(name).eval() for name in ("plain20", "cifar_resnet20"))
    plain.load_state_dict(residual.state_dict(), strict=True)
    images = torch.randn(1, 3, 32, 32)
    for block in plain.layer2[1:]:
        torch.nn.init.zeros_(block.bn2.weight)
    with torch.no_grad():
        assert plain.layer1(plain.bn1(plain.conv1(images))).ge(0).all()
        x = residual.layer1(residual.act1(residual.bn1(residual.conv1(images))))
        # option A: every second cell, and zeros for the new channels
        shortcut = residual.layer2[0].downsample(x)
        assert torch.equal(shortcut[:, :16], x[:, :, ::2, ::2])
        assert not shortcut[:, 16:].any()
        assert not plain.layer2(x).any(), "with a dead last block nothing passes it by"


def test_any_network_of_timm_can_be_built_by_name():
    assert create_model("resnet10t", num_classes=3)(torch.randn(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp", "resnet18.a1_in1k", "../resnet18"])
def test_a_name_that_is_a_place_is_no_architecture(name):
    with pytest.raises(UserError, match="unknown model"):
        create_model(name)


def test_a_network_that_cannot_take_the_pictures_says_so_before_training():
    with pytest.raises(UserError, match=r"inception_v3 does not take pictures of 224 x 224 px .*made for 299 px"):
        check_input("inception_v3", 224)


def test_a_width_is_refused_by_networks_that_have_none():
    with pytest.raises(UserError, match=r"width=0.5: alexnet exists at its published width only"):
        create_model("alexnet", width=0.5)


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


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224", "alexnet"])
def test_networks_whose_head_is_not_pooling_and_one_linear_layer_have_no_class_maps(name):
    with torch.device("meta"):
        assert not has_class_maps(create_model(name))


def test_without_pooling_a_drn_returns_class_maps():
    model = create_model("drn_c_26", num_classes=5, width=0.125).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = class_maps(model, images)
        model.global_pool = type(model.global_pool)(pool_type="", flatten=False)
        assert torch.equal(model(images), maps)


@pytest.mark.parametrize("size", [224, 225, 256])
@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_drn_a_with_resnet_weights_equals_it_at_the_positions_that_a_stride_keeps(depth, size):
    torch.manual_seed(0)
    resnet = create_model(f"resnet{depth}", zero_init_last=False).eval()
    drn_a = create_model(f"drn_a_{depth}").eval()
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
