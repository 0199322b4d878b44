"""Small learners for the leak check: ridge regression on random features, in closed form.

Which of two objects sounds is learnt as a preference: a score that should be higher for the sounding object than
for the other, so the order in which they are listed carries no information.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import beta

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_FOLDS = 5
_PATCH = 6


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A share of correct answers, in percent.

    Attributes:
        right, number: correct answers and all answers; ties count half.
        low, high: Clopper-Pearson interval.
    """

    right: float
    number: int
    low: float
    high: float

    @property
    def percent(self) -> float:
        return 100 * self.right / self.number


def share_right(answers: np.ndarray, confidence: float = 0.95) -> Interval:
    """The share of correct answers with its exact binomial interval.

    Args:
        answers: (n,), 1 correct, 0 wrong, 0.5 undecided.
        confidence: of the two-sided interval.
    """
    number, right, tail = len(answers), float(np.sum(answers)), (1 - confidence) / 2
    low = beta.ppf(tail, right, number - right + 1) if right > 0 else 0.0
    high = beta.ppf(1 - tail, right + 1, number - right) if right < number else 1.0
    return Interval(right=right, number=number, low=100 * float(low), high=100 * float(high))


class RandomFeatures:
    """Standardised values and random rectified combinations of them, to learn nonlinear relations.

    Args:
        values: (..., F), from which mean and scale are computed.
        count: number of combinations.
        rng: source of the random draws.
    """

    def __init__(self, values: np.ndarray, *, count: int, rng: np.random.Generator):
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        self.mean, self.scale = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-6)
        self.weight = rng.standard_normal((flat.shape[1], count)) / np.sqrt(flat.shape[1])
        self.bias = rng.uniform(-1, 1, count)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(..., F) -> float64 (..., F + count)."""
        # Values far outside the training clips must not dominate.
        known = np.clip((values - self.mean) / self.scale, -4, 4)
        return np.concatenate([known, np.maximum(known @ self.weight + self.bias, 0)], axis=-1)


class RandomConvolutions:
    """Random filters, rectified and averaged over quarters of a crop: an untrained convolutional layer.

    Args:
        crops: uint8 (..., h, w, 3); filters are patches of them, which work better than noise.
        count: filters.
        rng: source of the random draws.
    """

    def __init__(self, crops: np.ndarray, *, count: int, rng: np.random.Generator):
        flat = crops.reshape(-1, *crops.shape[-3:])
        side = flat.shape[1] - _PATCH + 1
        positions = zip(rng.integers(len(flat), size=count), *rng.integers(side, size=(2, count)), strict=True)
        patches = np.stack([flat[n, y : y + _PATCH, x : x + _PATCH] for n, y, x in positions]).astype(np.float32)
        patches -= patches.mean(axis=(1, 2), keepdims=True)
        patches /= np.linalg.norm(patches.reshape(count, -1), axis=1)[:, None, None, None] + 10.0
        self.filters = torch.from_numpy(patches).permute(0, 3, 1, 2)

    @torch.no_grad()
    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """uint8 (..., h, w, 3) -> float64 (..., 8 * count): positive and negative responses in each quarter."""
        flat = torch.from_numpy(crops.reshape(-1, *crops.shape[-3:])).permute(0, 3, 1, 2)
        rows = []
        for part in flat.split(256):
            response = F.conv2d(part.float() - 128, self.filters) / 32
            response = torch.cat((response.relu(), (-response).relu()), dim=1)
            rows.append(F.adaptive_avg_pool2d(response, 2).flatten(1))
        return torch.cat(rows).double().numpy().reshape(*crops.shape[:-3], -1)


def learn_preference(first: np.ndarray, second: np.ndarray, first_sounds: np.ndarray) -> np.ndarray:
    """Weights of a score that is higher for the sounding object of a pair.

    Args:
        first, second: (n, F) or (n, T, F), features of the two objects; each frame of a clip is a separate
            pair, and all frames of a clip share a fold when the ridge is chosen.
        first_sounds: bool (n,).

    Returns:
        (F,).
    """
    difference = (first - second).reshape(len(first), -1, first.shape[-1])
    target = np.where(first_sounds, 1.0, -1.0)
    return fit_ridge(difference, np.repeat(target[:, None, None], difference.shape[1], axis=1))[:, 0]


def prefer(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Score by which the first object is preferred, float64 (n,); averaged over frames if there are any."""
    score = (first - second) @ weights
    return score if score.ndim == 1 else score.mean(axis=tuple(range(1, score.ndim)))


def judge(scores: np.ndarray, first_sounds: np.ndarray) -> np.ndarray:
    """(n,): 1 where the sign of the score selects the sounding object, 0 where it does not, 0.5 at zero."""
    return (1 + np.sign(scores) * np.where(first_sounds, 1, -1)) / 2


def fit_ridge(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ridge regression; the penalty is chosen by 5-fold cross-validation over clips.

    Each fold's normal equations are formed once and reused for every penalty.

    Args:
        inputs: (n, T, F); rows of one clip stay together.
        targets: (n, T, C).

    Returns:
        (F, C).
    """
    number, size = len(inputs), inputs.shape[2]
    count = min(_FOLDS, number)
    parts = [(inputs[k::count], targets[k::count]) for k in range(count)]
    # Contribution of each fold to the normal equations.
    squares = [np.einsum("ntf,ntg->fg", known, known, optimize=True) for known, _ in parts]
    products = [np.einsum("ntf,ntc->fc", known, wanted, optimize=True) for known, wanted in parts]
    square, product = sum(squares), sum(products)
    unit = max(float(np.trace(square)) / size, 1e-12) * np.eye(size)
    errors = []
    for ridge in _RIDGES:
        error = 0.0
        for (known, wanted), own_square, own_product in zip(parts, squares, products, strict=True):
            weights = np.linalg.solve(square - own_square + ridge * unit, product - own_product)
            error += float(((known @ weights - wanted) ** 2).sum())
        errors.append(error)
    return np.linalg.solve(square + _RIDGES[int(np.argmin(errors))] * unit, product)
