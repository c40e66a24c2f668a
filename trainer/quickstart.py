"""`python -m trainer quickstart`: the four tiny networks, trained once, and what they show."""

import time

from shared import registry
from trainer import recipes

RECIPES = ("tiny_resnet18", "tiny_drn_a_18", "tiny_drn_b_26", "tiny_drn_c_26")


def run(overrides: list[str]) -> None:
    """Train those that the registry lacks and print the table of all four."""
    registry.check_reachable()
    loaded = [recipes.load(name, overrides) for name in RECIPES]
    known = {version.name: version for version in reversed(registry.versions())}
    missing = [recipe for recipe in loaded if recipe.registered_name not in known]
    started = time.perf_counter()
    if missing:
        from trainer import training  # brings Ray

        known |= {version.name: version for version in training.train(missing)}
        print(f"trained {len(missing)} networks in {time.perf_counter() - started:.0f} s")
    print(f"{'network':<12} {'validation error':>16} {'gridding (GHD)':>15}  version")
    for recipe in loaded:
        version = known[recipe.registered_name]
        ghd = f"{float(version.tags['ghd']):.2f}" if "ghd" in version.tags else "no dilation"
        print(f"{version.architecture:<12} {version.top1_error_pct:>14.1f} % {ghd:>15}  {version.uri}")
