"""GHD and V against inputs whose answer is known."""

import pytest
import torch
import torch.nn.functional as F

from shared.gridding import grid_harmonic_density, variogram_ratio

SIZE = 28


def noise(count: int = 512) -> torch.Tensor:
    return torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def ramp() -> torch.Tensor:
    return torch.arange(SIZE).float().expand(SIZE, SIZE)[None, None]


def blob() -> torch.Tensor:
    squares = (torch.arange(SIZE) - (SIZE - 1) / 2).square()
    return torch.exp(-(squares[:, None] + squares) / (2 * 6**2))[None, None]


def impulse_through_box(dilation: int) -> torch.Tensor:
    impulse = torch.zeros(1, 1, SIZE, SIZE)
    impulse[..., SIZE // 2, SIZE // 2] = 1
    return F.conv2d(impulse, torch.ones(1, 1, 3, 3), dilation=dilation, padding=dilation)


def noise_through_binomial(dilation: int) -> torch.Tensor:
    row = torch.tensor([1.0, 2.0, 1.0])
    return F.conv2d(noise(), torch.outer(row, row)[None, None], dilation=dilation, padding=dilation)


# The reference values were measured with an implementation of its own. Tolerances: noise is random; the impulse and
# the blob depend on where exactly their centre lies.
@pytest.mark.parametrize(
    ("maps", "dilation", "ghd", "v", "tolerance"),
    [
        (noise(), 2, 1.03, 1.00, 0.05),
        (noise(), 4, 0.99, 1.00, 0.05),
        (ramp(), 2, 0.001, 0.25, 0.001),
        (ramp(), 4, 0.003, 0.29, 0.003),
        (blob(), 2, 0.02, 0.25, 0.02),
        (blob(), 4, 0.00, 0.29, 0.003),
        (impulse_through_box(2), 2, 20.9, 2.89, 0.1),
        (impulse_through_box(4), 4, 25.5, 2.77, 0.1),
        (noise_through_binomial(2), 2, 15.4, 3.05, 0.6),
        (noise_through_binomial(4), 4, 8.8, 3.14, 0.6),
    ],
)
def test_scores_equal_the_reference_table(maps, dilation, ghd, v, tolerance):
    assert grid_harmonic_density(maps, dilation).mean().item() == pytest.approx(ghd, abs=tolerance)
    assert variogram_ratio(maps, dilation).mean().item() == pytest.approx(v, abs=min(tolerance, 0.02))


@pytest.mark.parametrize("score", [grid_harmonic_density, variogram_ratio])
@pytest.mark.parametrize("change", [
    lambda x: 3 * x - 7, lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.rot90(1, (-2, -1)),
], ids=["affine", "mirrored", "upside_down", "quarter_turn"])  # fmt: skip
def test_scores_are_invariant(score, change):
    maps = noise(8).reshape(2, 4, SIZE, SIZE)
    torch.testing.assert_close(score(maps, 4), score(change(maps), 4), rtol=1e-3, atol=1e-5)  # float32 FFT


def test_channels_are_summed_before_the_division():
    """A loud smooth channel outweighs a faint gridded one."""
    loud, faint = 100 * ramp(), impulse_through_box(4)
    assert grid_harmonic_density(torch.cat([loud, faint], 1), 4) < 0.1 < grid_harmonic_density(faint, 4)


def test_every_picture_of_a_batch_is_scored_alone():
    maps = torch.cat([noise(1), ramp()])
    together = grid_harmonic_density(maps, 2)
    alone = torch.cat([grid_harmonic_density(m[None], 2) for m in maps])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("score", [grid_harmonic_density, variogram_ratio])
def test_too_small_a_map_is_refused_with_the_rule(score):
    with pytest.raises(ValueError, match="15 x 28 cells is too small for dilation 4: each side needs at least 16"):
        score(torch.zeros(1, 1, 15, 28), 4)


@pytest.mark.gpu
def test_gpu_and_cpu_agree():
    maps = noise(4)
    torch.testing.assert_close(grid_harmonic_density(maps.cuda(), 4).cpu(), grid_harmonic_density(maps, 4))
