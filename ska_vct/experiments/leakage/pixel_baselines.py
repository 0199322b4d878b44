"""Scores of trivial predictions: a frequent location, every object, everything that moves."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.catalog import load_records
from ska_vct.evaluation.metrics import best_f, binary_stats, frame_ious
from ska_vct.synth.splits import SUBSET, TEST_SPLITS
from ska_vct.synth.truth import read_objects

SIZE = (224, 224)
_SHARES = np.linspace(0.05, 1.0, 20)


def score_pixel_baselines(
    root: str | os.PathLike, splits: Sequence[str] = TEST_SPLITS, *, progress: bool = True
) -> dict[str, dict[str, dict[str, float]]]:
    """Score fixed predictions on the benchmark's test splits.

    * ``nothing``: an empty mask.
    * ``usual location``: the area where objects sound most often in the training clips, of the size that
      scores best there.
    * ``all objects``: the true outlines of all objects, whatever they do.
    * ``all that moves``: the true outlines of all objects with motion of their own in the frame's second.

    Args:
        root: folder of the benchmark's splits.
        splits: names of the test splits.

    Returns:
        split -> prediction -> ``M_J`` and ``M_F``, percent, convention ``combo``, at 224 x 224.
    """
    root = Path(root)
    location = _usual_location(root / "train", progress)
    return {name: _score(root / name, location, progress) for name in splits}


def _usual_location(root: Path, progress: bool) -> np.ndarray:
    """Bool (H, W) at the clips' own size."""
    masks = []
    records = load_records(SUBSET, "train", root, prefer_rebuilt=False)
    for record in tqdm(records, "Usual location", unit="clip", disable=not progress):
        truth = read_objects(root, record)
        masks.append((truth.masks & truth.sounding[:, :, None, None]).any(axis=1))
    masks = np.concatenate(masks)
    mean = masks.mean(axis=0)
    candidates = [mean >= share * mean.max() for share in _SHARES]
    full = masks[masks.any(axis=(1, 2))].reshape(-1, mean.size).astype(np.float32)

    def mean_iou(location: np.ndarray) -> float:
        inside = full @ location.reshape(-1).astype(np.float32)
        return float((inside / (full.sum(axis=1) + location.sum() - inside)).mean())

    return max(candidates, key=mean_iou)


def _score(root: Path, location: np.ndarray, progress: bool) -> dict[str, dict[str, float]]:
    scores: dict[str, list[tuple[float, float]]] = {}
    geometry = ClipGeometry.resize(SIZE)
    records = load_records(SUBSET, "test", root, prefer_rebuilt=False)
    for record in tqdm(records, f"Scoring {root.name}", unit="clip", disable=not progress):
        truth = read_objects(root, record)

        def union(chosen: np.ndarray) -> torch.Tensor:
            masks = (truth.masks & chosen[:, :, None, None]).any(axis=1)  # noqa: B023
            return torch.from_numpy(geometry.apply_labels(masks.astype(np.uint8)).astype(np.float32))

        wanted, everywhere = union(truth.sounding), np.ones_like(truth.sounding)
        usual = geometry.apply_labels(np.repeat(location[None].astype(np.uint8), len(wanted), axis=0))
        predictions = {
            "nothing": torch.zeros_like(wanted),
            "usual location": torch.from_numpy(usual.astype(np.float32)),
            "all objects": union(everywhere),
            "all that moves": union(truth.moving),
        }
        for name, prediction in predictions.items():
            stats = binary_stats(prediction, wanted)
            scores.setdefault(name, []).append((float(frame_ious(stats).mean()), best_f(stats)))
    means = {name: 100 * np.array(values).mean(axis=0) for name, values in scores.items()}
    return {name: {"M_J": float(mean[0]), "M_F": float(mean[1])} for name, mean in means.items()}
