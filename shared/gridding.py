"""Gridding, measured: how much of a feature map's energy sits on the lattice of its dilation.

Gridding is described in Yu, Koltun and Funkhouser 2017, arXiv:1705.09914; no scalar for it was published. Both scores
are this project's own. Both are invariant to x -> a x + b, to flips and to quarter turns.
"""

import torch
from torch import Tensor


def grid_harmonic_density(maps: Tensor, dilation: int) -> Tensor:
    """Spectral density of feature maps at the harmonics of the dilation lattice, relative to the rest of the spectrum.

    With P the power spectrum of the mean-removed, Hann-windowed map and N the frequencies within 1/(4 dilation)
    cycles per cell (max-norm) of the lattice (1/dilation) Z^2: the mean of P over N without the neighbourhood of
    frequency zero, divided by the mean of P outside N. Channels are summed before the division.

    Args:
        maps: (B, C, H, W), at native resolution: upsampling them first hides the grid.
        dilation: period of the lattice in cells, at least 2.

    Returns:
        (B,), at least 0. White noise scores 1; above 1 the lattice dominates; a smooth map is near 0. NaN where all
        maps of an image are constant.

    Raises:
        ValueError: dilation below 2, or H or W below 4 * dilation.
    """
    _check(maps, dilation)
    height, width = maps.shape[-2:]
    maps = maps.float()
    window = torch.outer(
        torch.hann_window(height, periodic=False, device=maps.device),
        torch.hann_window(width, periodic=False, device=maps.device),
    )
    centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
    power = torch.fft.fft2(centred * window).abs().square().sum(dim=1)  # (B, C, H, W) -> (B, H, W)
    near_lattice, near_zero = _harmonic_masks(height, width, dilation, maps.device)
    harmonics = near_lattice & ~near_zero
    return power[:, harmonics].mean(dim=1) / power[:, ~near_lattice].mean(dim=1)


def variogram_ratio(maps: Tensor, dilation: int) -> Tensor:
    """How much more neighbours differ than cells one lattice period apart.

    With gamma(k) the mean squared difference of cells k apart along rows and columns: the mean of gamma(1) ...
    gamma(dilation - 1), divided by gamma(dilation).

    Args:
        maps: (B, C, H, W), at native resolution.
        dilation: period of the lattice in cells, at least 2.

    Returns:
        (B,), at least 0. White noise scores 1, a ramp 0.25 (dilation 2) or 0.29 (dilation 4); above 1 cells one period
        apart are more alike than neighbours. NaN where all maps of an image are constant.

    Raises:
        ValueError: dilation below 2, or H or W below 4 * dilation.
    """
    _check(maps, dilation)
    maps = maps.float()
    gammas = [_variogram(maps, lag) for lag in range(1, dilation + 1)]
    return torch.stack(gammas[:-1]).mean(dim=0) / gammas[-1]


def smallest_side(dilation: int) -> int:
    """Fewest cells along a side that a map needs to be scored."""
    return 4 * dilation


def _variogram(maps: Tensor, lag: int) -> Tensor:
    down = (maps[..., lag:, :] - maps[..., :-lag, :]).square().mean(dim=(-2, -1))
    across = (maps[..., lag:] - maps[..., :-lag]).square().mean(dim=(-2, -1))
    return (down + across).sum(dim=1) / 2  # (B, C) -> (B,)


def _harmonic_masks(height: int, width: int, dilation: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two (H, W) masks of FFT bins: near any lattice point, and near frequency zero."""
    radius = 1 / (4 * dilation) + 1e-9  # bins exactly on the border belong to the neighbourhood
    near_lattice, near_zero = [], []
    for size in (height, width):
        frequency = torch.fft.fftfreq(size, device=device, dtype=torch.float64)
        near_lattice.append((frequency - (frequency * dilation).round() / dilation).abs() <= radius)
        near_zero.append(frequency.abs() <= radius)
    return near_lattice[0][:, None] & near_lattice[1], near_zero[0][:, None] & near_zero[1]


def _check(maps: Tensor, dilation: int) -> None:
    if dilation < 2:
        raise ValueError(f"dilation={dilation}: a lattice needs a period of at least 2 cells")
    height, width = maps.shape[-2:]
    if min(height, width) < smallest_side(dilation):
        raise ValueError(
            f"a map of {height} x {width} cells is too small for dilation {dilation}: each side needs at least "
            f"{smallest_side(dilation)} cells; use a larger picture"
        )
