"""What a training is measured by: exact errors of its networks on the validation part, and gridding on probes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image

from trainer.classification import Classification, classify
from trainer.compiling import WARM_UPS, compiled, compiling
from trainer.config import Recipe
from trainer.data import DataSet, EvalBatches
from trainer.data.loader import Batch
from trainer.ema import Networks
from trainer.meters import Damage
from trainer.precision import Precision
from trainer.probes import PROBE_COUNT, Probes, draw, gridding_metrics
from trainer.rollcall import all_or_none
from trainer.surroundings import World

EVAL_BATCH_SIZE = 64
"""Independent of the number of workers, so that every picture is evaluated in the same company."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Of all networks of a training after an update."""

    results: dict[str, Classification]
    """By the network's name."""
    to_register: str
    """The name of the network that becomes a version if training ends here."""
    gridding: dict[str, float]
    """Of the network `to_register`, as is `class_maps`."""
    class_maps: Image.Image | None

    @property
    def metrics(self) -> dict[str, float]:
        """Of the network `to_register`, as on a card."""
        result = self.results[self.to_register]
        return result.errors | {"images": float(result.images)} | self.gridding


def choose(results: Mapping[str, Classification]) -> str:
    """The network with the lower top-1 error; the first, `raw`, of equals, as an average has to earn its place."""
    return min(results, key=lambda name: results[name].top1_error_pct)


class Validator:
    """Exact errors on the validation part, and gridding on its probe pictures."""

    def __init__(self, recipe: Recipe, world: World, data: DataSet, precision: Precision) -> None:
        self.precision = precision
        self.compile = recipe.run.compile
        self.transform = recipe.augment.eval_transform
        self.batches = EvalBatches(
            data.val,
            self.transform,
            recipe.data,
            batch_size=min(EVAL_BATCH_SIZE, recipe.run.global_batch_size),
            rank=world.rank,
            world_size=world.size,
            pin=world.device.type == "cuda",
        )
        # one worker is enough for the probes, and on a small machine the others would be in its way
        self.probes = Probes(data.val.probes(PROBE_COUNT), self.transform, precision) if world.rank == 0 else None
        self.damage = Damage(data.val, "validation")

    def warm_up(self, networks: Networks) -> None:
        """Compile all networks for evaluation. All workers call it together.

        Raises:
            UserError: they cannot be compiled.
        """
        with compiling():
            self._classify(networks, [self.batches.black()] * WARM_UPS)

    def run(self, networks: Networks, title: str) -> Evaluation:
        """Evaluate all networks on the same batches. Rank 0 alone measures gridding and draws."""
        found = self._classify(networks, self.batches)
        all_or_none(lambda: self.damage.add(found[0].damaged))
        results = dict(zip(networks, found, strict=True))
        best = choose(results)
        maps = self.probes.class_maps(networks[best]) if self.probes else None
        if self.probes is None or maps is None:
            return Evaluation(results=results, to_register=best, gridding={}, class_maps=None)
        gridding = gridding_metrics(networks[best], maps)
        picture = draw(self.probes.pixels, maps, title)
        return Evaluation(results=results, to_register=best, gridding=gridding, class_maps=picture)

    def _classify(self, networks: Networks, batches: Iterable[Batch]) -> list[Classification]:
        runnable = [compiled(network, self.compile) for network in networks.values()]
        return classify(runnable, batches, self.transform, self.precision)
