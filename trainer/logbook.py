"""What a training tells of itself: metrics for MLflow, progress for the person who waits."""

from dataclasses import replace

from trainer.board import Progress
from trainer.config import Recipe
from trainer.data.sampling import Plan
from trainer.meters import Damage
from trainer.surroundings import Hooks
from trainer.validation import Evaluation


class Logbook:
    """Keeps the best error, too: it is one of the things told.

    Args:
        best_top1_error_pct: so far; infinite before the first evaluation.
    """

    def __init__(self, recipe: Recipe, plan: Plan, hooks: Hooks, best_top1_error_pct: float) -> None:
        self.best_top1_error_pct = best_top1_error_pct
        self._recipe = recipe
        self._plan = plan
        self._hooks = hooks
        self._top1_error_pct: float | None = None
        self._news: Progress | None = None

    def trained(self, done: int, rate: float, metrics: dict[str, float]) -> None:
        """The meter's reading after `done` updates, the last of them at this learning rate."""
        metrics = metrics | _image_size(self._recipe, self._plan, done)
        self._hooks.log({"train/lr": rate, "train/epoch": done / self._plan.steps_per_epoch, **metrics}, done)
        self._news = Progress(
            title=self._recipe.name,
            step=done,
            total_steps=self._plan.total_steps,
            loss=metrics["train/loss"],
            images_per_s=metrics["perf/images_per_s"],
            data_wait_pct=metrics["perf/data_wait_pct"],
            seconds_left=(self._plan.total_steps - done) * metrics["perf/step_time_s"],
            top1_error_pct=self._top1_error_pct,
        )
        self._hooks.progress(self._news)

    def evaluated(self, done: int, evaluation: Evaluation, *damage: Damage) -> None:
        """The evaluation after `done` updates, and what was found damaged by then."""
        self._top1_error_pct = evaluation.metrics["top1_error_pct"]
        self.best_top1_error_pct = min(self.best_top1_error_pct, self._top1_error_pct)
        if self._news is not None:
            self._hooks.progress(replace(self._news, top1_error_pct=self._top1_error_pct))
        self._hooks.log(_grouped(evaluation) | {"val/top1_error_pct_best": self.best_top1_error_pct}, done)
        if evaluation.class_maps is not None:
            self._hooks.log_image("class_maps", evaluation.class_maps, done)
        self._hooks.tag("damaged_pictures", _summary(*damage))


def _image_size(recipe: Recipe, plan: Plan, done: int) -> dict[str, float]:
    """The side of the crops at the last of `done` updates, for recipes in which they grow."""
    if recipe.augment.start_size is None:
        return {}
    return {"train/image_size": recipe.augment.train_size_at(plan.share_done(done - 1))}


def _grouped(evaluation: Evaluation) -> dict[str, float]:
    """The names by which MLflow's UI groups them; it sorts by name, so a figure's charts lie side by side."""
    errors = {
        f"val/{key}" if network == "raw" else f"val/{key}_{network}": value
        for network, result in evaluation.results.items()
        for key, value in result.errors.items()
    }
    gridding = {f"gridding/{key}": value for key, value in evaluation.gridding.items()}
    return errors | {"val/images": float(evaluation.results["raw"].images)} | gridding


def _summary(*parts: Damage) -> str:
    names = [name for part in parts for name in part.names(20)]
    return f"{sum(len(part) for part in parts)}" + (f": {', '.join(names)}" if names else "")
