"""Figures of a whole evaluation: the precision-recall curve, and which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BETA_SQUARED = 0.3
LISTED_CLASSES = 18
_LINE, _FAINT, _MARK = "#0072b2", "0.75", "#d55e00"


def precision_recall_figure(
    precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray, *, title: str
) -> np.ndarray:
    """Precision over recall, with lines of equal F and the best threshold and p > 0.5 marked, uint8 (H, W, 3).

    Args:
        precision: float (N,), shares; NaN draws an empty figure.
        recall: float (N,), shares.
        thresholds: float (N,), ascending.
        title: above the figure.
    """
    figure = Figure(figsize=(6, 5), dpi=110, layout="constrained")
    axis = figure.subplots()
    x = np.linspace(0.01, 1, 200)
    for level in (0.2, 0.4, 0.6, 0.8):
        # F = (1 + b) P R / (b P + R), solved for P
        with np.errstate(divide="ignore", invalid="ignore"):
            y = level * x / ((1 + BETA_SQUARED) * x - BETA_SQUARED * level)
        y[(y <= 0) | (y > 1)] = np.nan
        axis.plot(x, y, color=_FAINT, linewidth=0.8)
        axis.annotate(
            f"F {100 * level:.0f} %", (1.02, y[-1]), fontsize=10, color="0.4", va="center", annotation_clip=False
        )
    # At high thresholds nothing is predicted: the curve ends where recall does.
    drawn = recall > 0
    axis.plot(recall[drawn], precision[drawn], color=_LINE, linewidth=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.nan_to_num((1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall))
    best, half = int(f.argmax()), int(np.searchsorted(thresholds, 0.5))
    for index, marker, name in ((best, "o", "best threshold"), (half, "s", "p > 0.5")):
        label = f"{name}{f' {thresholds[index]:.2f}' if index == best else ''}: F {100 * f[index]:.1f} %"
        axis.plot(
            recall[index],
            precision[index],
            marker,
            color=_MARK,
            markersize=8,
            fillstyle="none",
            mew=2,
            label=label,
        )
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axis.set_title(title, fontsize=11)
    axis.legend(loc="lower left", fontsize=10, title="F of the curve's points")
    return _render(figure)


def confusion_figure(matrix: np.ndarray, names: Sequence[str], *, title: str) -> np.ndarray:
    """For the classes with the most pixels, which share of each is called what, uint8 (H, W, 3).

    Args:
        matrix: int (K, K), pixels by labelled class (rows) and predicted class (columns).
        names: K names; index 0 is background, which is always shown.
        title: above the figure.
    """
    weight = matrix.sum(0) + matrix.sum(1)
    weight[0] = weight.max() + 1
    shown = np.argsort(-weight, kind="stable")[: LISTED_CLASSES + 1]
    shown = np.sort(shown[weight[shown] > 0])
    rest = np.setdiff1d(np.arange(len(matrix)), shown)
    rows = matrix[shown]
    columns = np.concatenate([rows[:, shown], rows[:, rest].sum(1, keepdims=True)], axis=1)
    share = 100 * columns / np.maximum(rows.sum(1, keepdims=True), 1)
    size = 2.6 + 0.42 * len(shown)
    figure = Figure(figsize=(size + 0.8, size), dpi=110, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, vmin=0, vmax=100, cmap="Blues")
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.5:
            axis.text(
                j, i, f"{value:.0f}", ha="center", va="center", fontsize=9, color="w" if value > 55 else "0.1"
            )
    labels = [names[k] for k in shown]
    axis.set_xticks(range(len(labels) + 1), [*labels, "others"], rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="labelled")
    axis.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axis, label="share of the labelled class's pixels (%)", shrink=0.8)
    return _render(figure)


def _render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
