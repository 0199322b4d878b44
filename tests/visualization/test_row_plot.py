"""The figure of an ablation: that it is drawn whatever is missing, and that values end where they should."""

import numpy as np
from PIL import Image

from ska_vct.visualization.row_plot import Panel, plot_rows

BAR = (201, 215, 232)


def bars(path) -> list[tuple[int, int]]:
    """First and last column of each run of rows that hold a bar's colour."""
    image = np.asarray(Image.open(path).convert("RGB"))
    rows = (image == BAR).all(-1)
    found, inside = [], False
    for row in rows:
        if row.any() and not inside:
            columns = np.flatnonzero(row)
            found.append((columns[0], columns[-1]))
        inside = row.any()
    return found


def test_bars_are_means_of_one_scale(tmp_path):
    path = tmp_path / "figure.png"
    values = [[10.0, 30.0], [], [40.0]]
    plot_rows(["first", "without values", "third"], [Panel(title="T", axis="x (%)", values=values)], path)
    first, third = bars(path)
    # Means 20 and 40 from the same zero; a column more or less at each end.
    assert abs(first[0] - third[0]) <= 1
    assert abs((third[1] - third[0]) - 2 * (first[1] - first[0])) <= 3


def test_panels_of_one_quantity_share_its_scale(tmp_path):
    lengths = []
    for axis in ("same", "other"):
        panels = [Panel(title="A", axis="same", values=[[50.0]]), Panel(title="B", axis=axis, values=[[5.0]])]
        plot_rows(["row"], panels, tmp_path / "figure.png")
        image = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
        columns = np.flatnonzero((image == BAR).all(-1).any(0))
        # The second panel's bar begins after the widest gap.
        start = int(np.argmax(np.diff(columns))) + 1
        lengths.append(columns[-1] - columns[start])
    assert lengths[0] < 0.2 * lengths[1]
