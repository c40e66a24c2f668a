"""What became of the points of a sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

ERROR = "val/top1_error_pct"


def kept_error(metrics: Mapping[str, float]) -> float | None:
    """What a sweep compares: the last error of the weights that would be registered, raw or averaged."""
    errors = [metrics[name] for name in (ERROR, f"{ERROR}_ema") if name in metrics]
    return min(errors, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a point."""

    name: str
    point: tuple[Any, ...]
    error_pct: float | None
    """None where the training is not finished."""
    lowest_pct: float | None
    """Over all evaluations."""
    images: int
    """Validation pictures behind the error."""
    status: str
    run_id: str

    @property
    def margin_pct(self) -> float:
        """Half the 95 % interval that this number of pictures leaves."""
        share = (self.error_pct or 0) / 100
        return 196 * sqrt(share * (1 - share) / self.images) if self.images else 0


def finished_of(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.error_pct is not None]


def error_of(result: Result) -> float:
    assert result.error_pct is not None
    return result.error_pct


def table(results: Sequence[Result]) -> str:
    """The points by their error, those without one at the end."""
    width = max(len(result.name) for result in results)
    lines = [f"{'training':<{width}}  {'validation error':>16}  {'lowest':>8}  run"]
    for result in sorted(results, key=lambda r: (r.status != "FINISHED", r.error_pct or 0)):
        final = f"{result.error_pct:.2f} %" if result.error_pct is not None else ""
        lowest = f"{result.lowest_pct:.2f} %" if result.lowest_pct is not None else ""
        if result.status != "FINISHED":
            final = result.status.lower()
        lines.append(f"{result.name:<{width}}  {final:>16}  {lowest:>8}  {result.run_id}")
    return "\n".join(lines)
