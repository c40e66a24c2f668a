"""Stages on phases give the numbers of the dilated stages."""

import copy

import pytest
import timm
import torch
from recording import WORLD, Recorder, final_state, recipe
from torch import nn

from shared.errors import UserError
from shared.models import create_model
from shared.models.phases import Fold, PhasedStage, Unfold, dilated_stages, fold_phases
from trainer import loop, recipes

NAMES = ["drn_a_18", "drn_a_50", "drn_b_26", "drn_c_26", "drn_d_22", "drn_d_54"]
# Maps of 4 x 4; of 6 x 4, which dilation 4 divides one way only; of 5 x 3, which nothing divides; of 4 x 8
SIZES = [(32, 32), (48, 32), (35, 24), (32, 64)]


def pair(name: str, **options) -> tuple[nn.Module, nn.Module]:
    """The same narrow network, dilated and folded, in float64 so that one tolerance holds for every depth."""
    torch.manual_seed(0)
    dilated = create_model(name, num_classes=5, width=0.07, **options).double()
    for module in dilated.modules():  # statistics and shortcuts that are not those of the start
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return dilated, fold_phases(copy.deepcopy(dilated))


def assert_trains_alike(dilated: nn.Module, folded: nn.Module, images: torch.Tensor) -> None:
    """Logits, gradients of images and parameters, and running statistics of one step in training mode."""
    results = []
    for model in (dilated.train(), folded.train()):
        leaf = images.clone().requires_grad_()
        torch.manual_seed(1)
        logits = model(leaf)
        logits.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append(({"logits": logits, "images": leaf.grad, **gradients}, model.state_dict()))
    for expected, got in zip(*results, strict=True):
        assert list(got) == list(expected)
        for name in expected:
            scale = expected[name].abs().max().item() + 1
            # sums in another order, through up to 53 layers of batch norm in float64
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-8 * scale, msg=name)


CASES = [(name, SIZES[0]) for name in NAMES] + [(name, size) for name in ("drn_a_18", "drn_c_26") for size in SIZES[1:]]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_logits_gradients_and_statistics_are_those_of_the_dilated_network(name, size):
    dilated, folded = pair(name)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded.eval()(images), dilated.eval()(images))
    assert_trains_alike(dilated, folded, images)


@pytest.mark.parametrize("name", ["drn_a_18", "drn_c_26"])
def test_channels_last_gives_the_same_numbers_and_stays(name):
    dilated, folded = pair(name)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    folded = folded.to(memory_format=torch.channels_last)
    assert_trains_alike(dilated, folded, images)
    assert folded.forward_features(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("name", "expected"), [("drn_c_26", {1}), ("drn_d_22", {1}), ("drn_a_18", {1, 2})])
def test_on_maps_that_the_dilation_divides_convolutions_run_dense(name, expected):
    _, folded = pair(
        name
    )  # within the first block of DRN-A's stages the dilation grows, and folding is by the smaller one
    dilations = []
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):  # views share the hooks of the blocks
            module.register_forward_hook(lambda conv, *_: dilations.append(max(conv.dilation)))
    folded(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    assert set(dilations) == expected


@pytest.mark.parametrize(("size", "expected"), [((32, 32), 4), ((48, 32), 2), ((35, 24), 1)])
def test_a_map_is_folded_as_far_as_its_size_allows(size, expected):
    _, folded = pair("drn_c_26")
    batches = []
    folded.layer6[1].conv2.register_forward_hook(lambda _conv, _args, maps: batches.append(len(maps)))
    folded(torch.randn(2, 3, *size, dtype=torch.float64))
    assert batches == [2 * expected**2]


def test_state_dicts_and_parameters_interchange():
    dilated, folded = pair("drn_d_24")
    assert list(folded.state_dict()) == list(dilated.state_dict())
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in dilated.named_parameters()]
    other, _ = pair("drn_d_24")
    with torch.no_grad():
        other.layer6[0].conv1.weight.mul_(2)
    folded.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(folded.eval()(images), other.eval()(images))


def test_only_the_named_stages_are_folded_and_others_are_refused():
    model = create_model("drn_c_26", num_classes=5, width=0.07)
    assert dilated_stages(model) == {"layer5": 2, "layer6": 4, "layer7": 2}
    fold_phases(model, ["layer6"])
    assert [n for n, m in model.named_children() if isinstance(m, PhasedStage)] == ["layer6"]
    assert dilated_stages(model) == {"layer5": 2, "layer6": 4, "layer7": 2}
    with pytest.raises(UserError, match="'layer8' is not a dilated stage of this network; it has layer5, layer6"):
        fold_phases(model, ["layer8"])


def test_folding_twice_changes_nothing_more():
    dilated, folded = pair("drn_a_18")
    assert_trains_alike(dilated, fold_phases(folded), torch.randn(2, 3, 32, 32, dtype=torch.float64))


def test_a_network_without_dilation_is_left_alone():
    model = create_model("resnet18", num_classes=5)
    assert not any(isinstance(m, PhasedStage) for m in fold_phases(model).modules())


def test_a_layer_that_looks_across_phases_is_refused():
    model = timm.create_model("resnet18", output_stride=8, drop_block_rate=0.1)
    with pytest.raises(UserError, match=r"layer3.0.drop_block \(DropBlock2d\) would act differently"):
        fold_phases(model)


def test_drop_path_drops_whole_maps_as_without_folding():
    dilated, folded = pair("drn_a_18", drop_path_rate=0.5)
    assert_trains_alike(dilated, folded, torch.randn(4, 3, 32, 32, dtype=torch.float64))


def test_layers_replaced_for_synchronised_batch_norm_reach_the_phases():
    _, folded = pair("drn_d_22")
    folded = nn.SyncBatchNorm.convert_sync_batchnorm(folded)
    layers = [m for stage in ("layer5", "layer6", "layer7") for m in getattr(folded, stage).views[2].modules()]
    assert any(isinstance(m, nn.SyncBatchNorm) for m in layers)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layers)


def test_gradient_checkpointing_still_works():
    dilated, folded = pair("drn_c_26")
    folded.set_grad_checkpointing()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(folded.train()(images), dilated.train()(images))


def test_a_folded_network_is_one_graph_to_the_compiler():
    dilated, folded = pair("drn_a_18")
    compiled = torch.compile(folded, backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(compiled.train()(images), dilated.train()(images))


def test_a_copy_of_a_folded_network_has_weights_of_its_own_on_the_phases_too():
    dilated, folded = pair("drn_c_26")
    average = copy.deepcopy(folded)
    with torch.no_grad():
        folded.layer6[0].conv1.weight.zero_()
    assert_trains_alike(dilated, average, torch.randn(2, 3, 32, 32, dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_batch_holds_the_sub_lattices_of_each_map_side_by_side(n, layout):
    maps = torch.randn(2, 5, 12, 24).contiguous(memory_format=layout)
    phases = Fold(n)(maps)
    assert phases.is_contiguous(memory_format=layout)
    assert torch.equal(phases[n * n + n + 1], maps[1, :, 1::n, 1::n])
    assert torch.equal(Unfold(n)(phases), maps)


def test_a_training_with_folded_stages_ends_with_the_same_weights_under_the_same_names(colour_folder, tmp_path):
    states = []
    for stages in ("[]", '["layer5", "layer6"]'):
        recorder = Recorder(tmp_path / stages)
        config = recipe(colour_folder, f"model.phase_folded_stages={stages}", "run.epochs=1", "optimizer.base_lr=0.01")
        loop.train(config, WORLD, recorder, "run")
        states.append((final_state(recorder), recorder))
    (plain, _), (folded, recorder) = states
    assert list(folded.model) == list(plain.model)
    for name, value in plain.model.items():
        # four updates in float32, whose sums are added in another order
        torch.testing.assert_close(folded.model[name], value, rtol=1e-3, atol=1e-4, msg=name)
    create_model("drn_c_26", num_classes=3, width=0.125).load_state_dict(folded.model)
    assert list(recorder.values("gridding/ghd")) == [4], "the probes see the maps that they always saw"


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [
        ("drn_c_26", '["layer8"]', "'layer8' is not a dilated stage of this network; it has layer5, layer6, layer7"),
        ("resnet18", '["layer4"]', "'layer4' is not a dilated stage of this network; it has none"),
    ],
)
def test_a_stage_that_cannot_be_folded_is_refused_with_the_recipe(name, stages, message):
    with pytest.raises(UserError, match=message):
        recipes.load(name, [f"model.phase_folded_stages={stages}"])
