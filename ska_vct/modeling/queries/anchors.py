"""Seeds queries at locations whose motion matches the audio (docs/method.md, KEVA's variants).

The KEVA notes rank locations by the map and seed queries with the features at the best ones. They specify neither
the suppression of neighbours nor the behaviour in static frames; both are ours.

Shape legend: N frames, C width, Q queries, k anchors, g x g motion map, h x w features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def best_locations(motion_map: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima of each map.

    A location is a local maximum if none of its eight neighbours is higher, which keeps one object from taking all
    anchors; among equal neighbours the last one wins.

    Args:
        motion_map: (N, 1, g, g) in [0, 1].
        count: k, at most g*g.

    Returns:
        int64 (N, k), indices into the g*g locations, best first, and bool (N, k), which of them are local maxima
        above zero (none in a static frame).
    """
    # Ranks are distinct even where values are equal.
    ranks = motion_map.flatten(1).argsort(dim=1, stable=True).argsort(1).view_as(motion_map).float()
    highest = ranks == F.max_pool2d(ranks, 3, stride=1, padding=1)
    values, locations = torch.where(highest, motion_map, 0.0).flatten(1).topk(count, 1)
    return locations, values > 0


def sample_locations(features: Tensor, locations: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sample features bilinearly at the centres of grid cells.

    Args:
        features: (N, C, h, w).
        locations: int64 (N, k), indices into the cells, row by row.
        grid: rows and columns.

    Returns:
        (N, k, C).
    """
    rows, columns = grid
    x = (locations % columns + 0.5) * (2 / columns) - 1
    y = (locations.div(columns, rounding_mode="floor") + 0.5) * (2 / rows) - 1
    points = torch.stack((x, y), -1)[:, :, None].to(features.dtype)
    return F.grid_sample(features, points, align_corners=False)[..., 0].transpose(1, 2)


def seed_queries(queries: Tensor, seeds: Tensor, found: Tensor) -> Tensor:
    """Replace the first queries by features from the best locations.

    Args:
        queries: (N, Q, C); kept where ``found`` is False, which in static frames is everywhere.
        seeds: (N, k, C), k at most Q.
        found: bool (N, k), which seeds are valid.

    Returns:
        (N, Q, C).
    """
    count = seeds.shape[1]
    first = torch.where(found[..., None], seeds.to(queries.dtype), queries[:, :count])
    return torch.cat((first, queries[:, count:]), 1)
