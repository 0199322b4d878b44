"""Queries sampled where motion goes with the sound (docs/method.md, KEVA's variants).

Their notes say that locations are ranked by the map and that the features at the best ones seed queries. How they
keep neighbours apart and what they do in still frames is not said; both are ours.

Shape legend: N frames, C width, Q queries, k anchors, g x g motion map, h x w features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def best_places(motion_map: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima of each map.

    A place counts if none of its eight neighbours is higher, so that one object does not take all anchors; of
    equal neighbours the last one counts.

    Args:
        motion_map: (N, 1, g, g) in [0, 1].
        count: k, at most g*g.

    Returns:
        int64 (N, k), indices into the g*g places, best first, and bool (N, k), which of them are local maxima
        above zero: none in a still frame.
    """
    # Ranks differ everywhere, also where values do not.
    ranks = motion_map.flatten(1).argsort(dim=1, stable=True).argsort(1).view_as(motion_map).float()
    highest = ranks == F.max_pool2d(ranks, 3, stride=1, padding=1)
    values, places = torch.where(highest, motion_map, 0.0).flatten(1).topk(count, 1)
    return places, values > 0


def sample_places(features: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Features at the centres of a grid's cells, bilinear.

    Args:
        features: (N, C, h, w).
        places: int64 (N, k), indices into the cells, row by row.
        grid: rows and columns.

    Returns:
        (N, k, C).
    """
    rows, columns = grid
    x = (places % columns + 0.5) * (2 / columns) - 1
    y = (places.div(columns, rounding_mode="floor") + 0.5) * (2 / rows) - 1
    points = torch.stack((x, y), -1)[:, :, None].to(features.dtype)
    return F.grid_sample(features, points, align_corners=False)[..., 0].transpose(1, 2)


def seed_queries(queries: Tensor, seeds: Tensor, found: Tensor) -> Tensor:
    """Put what is found at the best places in the place of the first queries.

    Args:
        queries: (N, Q, C); stays as it is where a map has fewer than k maxima, in still frames everywhere.
        seeds: (N, k, C), k at most Q.
        found: bool (N, k), which of them there are.

    Returns:
        (N, Q, C).
    """
    count = seeds.shape[1]
    first = torch.where(found[..., None], seeds.to(queries.dtype), queries[:, :count])
    return torch.cat((first, queries[:, count:]), 1)
