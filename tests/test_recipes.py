"""Recipes: complete, checked, and clear about what is wrong."""

import pytest

from shared.errors import UserError
from shared.models import ARCHITECTURES, check_input
from shared.models.zoo import input_size
from trainer import quickstart, recipes
from trainer.tracking.runs import flat_params


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_loads(name):
    recipe = recipes.load(name)
    assert recipe.expected.source


def test_every_architecture_has_a_recipe_of_its_name_for_the_data_it_was_made_for():
    data = {(1, 28): "mnist", (3, 32): "cifar10", (3, 224): "imagenet", (3, 299): "imagenet"}
    assert set(ARCHITECTURES) <= set(recipes.names())
    for name in ARCHITECTURES:
        recipe = recipes.load(name)
        assert (recipe.model.name, recipe.data_name) == (name, data[input_size(name)])
        assert (len(recipe.augment.mean), recipe.augment.eval_size) == input_size(name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_takes_the_pictures_of_its_recipe(name):
    recipe = recipes.load(name)
    for size in (recipe.augment.train_size, recipe.augment.eval_size):
        check_input(name, size, **recipe.model_options)


def test_resnets_have_a_classic_a_fast_and_a_strong_recipe():
    for depth in (18, 34, 50, 101, 152):
        classic, fast, strong = (recipes.load(f"resnet{depth}{kind}") for kind in ("", "_fast", "_strong"))
        assert [r.run.epochs for r in (classic, fast, strong)] == [90, 100, 300]
        assert (fast.optimizer.name, fast.optimizer.loss, fast.augment.train_size) == ("lamb", "bce", 160)
        assert fast.learning_rate == pytest.approx(8e-3)
        assert strong.learning_rate == pytest.approx(5e-3)
        assert (strong.data.repeats, strong.model.drop_path_rate) == (3, 0.05)


def test_what_a_base_reaches_is_not_expected_of_a_recipe_that_extends_it():
    assert (
        recipes.load("fashion_mnist_lenet5").expected.top1_error_pct != recipes.load("lenet5").expected.top1_error_pct
    )


def test_drn_recipes_follow_the_schedule_of_the_paper():
    recipe = recipes.load("drn_c_26")
    assert recipe.run.epochs == 120
    assert recipe.run.global_batch_size == 256
    assert recipe.learning_rate == 0.1
    assert (recipe.schedule.name, recipe.schedule.milestones, recipe.schedule.step_factor) == (
        "step",
        (30, 60, 90),
        0.1,
    )
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (0.9, 1e-4)
    assert (recipe.expected.top1_error_pct, recipe.expected.top5_error_pct) == (24.86, 7.55)


def test_an_override_takes_toml_values_and_bare_words():
    recipe = recipes.load("tiny_drn_c_26", ["run.epochs=2", "optimizer.base_lr=1e-3", "run.precision=fp32"])
    assert (recipe.run.epochs, recipe.optimizer.base_lr, recipe.run.precision) == (2, 1e-3, "fp32")


def test_a_recipe_file_may_extend_a_recipe_of_the_project(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "tiny_drn_c_26"\n[run]\nepochs = 1\n')
    recipe = recipes.load(str(path))
    assert (recipe.name, recipe.run.epochs, recipe.model.name) == ("mine", 1, "drn_c_26")


def test_registered_names_tell_architecture_width_and_data():
    assert recipes.load("drn_c_26").registered_name == "drn_c_26-imagenet"
    assert recipes.load("tiny_drn_c_26").registered_name == "drn_c_26-w0.25-photos"


def test_the_quickstart_knows_the_names_of_its_networks():
    assert {name: recipes.load(name).registered_name for name in quickstart.NETWORKS} == quickstart.NETWORKS


def test_params_of_a_run_are_flat():
    params = flat_params(recipes.load("tiny_drn_c_26"))
    assert params["run.epochs"] > 0
    assert not any(isinstance(value, dict) for value in params.values())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.epoch=3", "unknown key run.epoch; run has: epochs, global_batch_size"),
        ("foo.x=1", "unknown section 'foo' in 'foo.x=1'; there are: model, data"),
        ("expected.source=x", "unknown section 'expected'"),
        ("run.epochs=0", "run.epochs=0: input should be greater than 0"),
        ("run.precision=fp17", "run.precision='fp17': input should be"),
        ("model.width=wide", "model.width='wide': input should be a valid number"),
        ("model.name=drn_c_27", "unknown model 'drn_c_27'; did you mean .*drn_c_26"),
        (
            "run.global_batch_size=33",
            "run.global_batch_size=33 is not divisible by scaling.num_workers=2; try 32 or 34",
        ),
        (
            "run.per_device_batch_size=7",
            "run.per_device_batch_size=7 does not cut a worker's 16 images into equal parts .*; try 4",
        ),
        (
            "run.compile=fast",
            "run.compile='fast': input should be 'off', 'default', 'reduce-overhead'",
        ),
        ("augment.min_scale=0.9", "augment.min_scale=0.9 is above augment.max_scale=0.6"),
        ("augment.eval_size=128", "augment.eval_size=128 is larger than augment.eval_resize=96"),
        ("schedule.name=step", "schedule.name=step needs schedule.milestones"),
        ("augment.mean=[0.5]", r"augment.mean=\[0.5\] and augment.std=.* need a number for each channel"),
        ("model.freeze_stages=1", "model.freeze_stages=1 would keep random weights; set model.pretrained"),
        ("augment.auto_augment=rand-m6;x", "augment.auto_augment='rand-m6;x': string should match pattern"),
        ("schedule.warmup_epochs=100", "schedule.warmup_epochs=100 must be below run.epochs"),
        ("hello", "'hello' is neither a recipe nor a setting"),
    ],
)
def test_a_wrong_override_is_answered_in_one_clear_line(override, message):
    with pytest.raises(UserError, match=message) as caught:
        recipes.load("tiny_drn_c_26", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run\n", "is not valid TOML"),
        ('extends = "nothing"\n', "extends 'nothing'"),
        ('extends = "tiny_drn_c_26"\n[trainer]\nx = 1\n', "unknown section trainer; there are: .*model"),
        ('[model]\nname = "drn_c_26"\n', "data is missing"),
    ],
)
def test_a_wrong_recipe_file_is_answered_in_one_clear_line(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        recipes.load(str(path))


def test_an_unknown_recipe_is_answered_with_its_neighbours():
    with pytest.raises(UserError, match=r"unknown recipe 'drn_c_62'; did you mean .*drn_c_26"):
        recipes.load("drn_c_62")
