"""The width factor: narrow copies of a network for small data."""

from shared.errors import UserError


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a whole number of at least 1."""
    if width <= 0:
        raise UserError(f"width={width} must be above 0; 1 is the published network, 0.25 a quarter of its channels")
    return max(1, round(channels * width))
