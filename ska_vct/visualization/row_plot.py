"""A plot of named rows: values as dots, means as bars."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ska_vct.utils.files import atomic_path

_BAR, _DOT = "#c9d7e8", "#1f3b57"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One metric.

    Attributes:
        title: above the panel.
        axis: name and unit of the values.
        values: the values of each row, or an empty list. Panels with the same ``axis`` share its scale.
    """

    title: str
    axis: str
    values: Sequence[Sequence[float]]


def plot_rows(labels: Sequence[str], panels: Sequence[Panel], path: str | os.PathLike) -> None:
    """Write a PNG with panels side by side and rows from top to bottom.

    Args:
        labels: one per row.
        panels: at least one.
        path: of the file, which is replaced atomically.
    """
    figure = Figure(figsize=(2.2 + 3.0 * len(panels), 1.1 + 0.42 * len(labels)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for row, values in enumerate(panel.values):
            if values:
                mean = sum(values) / len(values)
                axis.barh(row, mean, height=0.62, color=_BAR)
                axis.plot(values, [row] * len(values), "o", color=_DOT, markersize=4, alpha=0.8)
                axis.annotate(
                    f"{mean:.1f}", (max(0, *values), row), (6, 0), textcoords="offset points", va="center"
                )
        axis.set_title(panel.title)
        axis.set_xlabel(panel.axis)
        axis.axvline(0, color="0.4", linewidth=0.8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.margins(x=0.16)
        axis.spines[["top", "right"]].set_visible(False)
    # Panels of the same quantity are compared, so they share a scale.
    for name in {panel.axis for panel in panels}:
        same = [axis for axis, panel in zip(axes, panels, strict=True) if panel.axis == name]
        limits = [limit for axis in same for limit in axis.get_xlim()]
        for axis in same:
            axis.set_xlim(min(limits), max(limits))
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
