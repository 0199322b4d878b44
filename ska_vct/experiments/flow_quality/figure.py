"""Report and figure that compare flow methods with true flow; used by ``datasets/flow_quality.py``."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ska_vct.data.catalog import load_records
from ska_vct.data.flow.extract.clip import FlowRequest, read_clip
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs
from ska_vct.data.flow.methods.registry import build_flow_method
from ska_vct.data.flow.store import FlowError
from ska_vct.experiments.flow_quality.measure import (
    FlowScore,
    NoFlow,
    camera_table,
    full_fields,
    markdown_table,
    score_method,
    sizes_of_release,
)
from ska_vct.synth.true_flow import TrueFlow
from ska_vct.utils.files import atomic_write
from ska_vct.visualization.canvas import Row, draw_grid
from ska_vct.visualization.images import flow_to_image, resize_image

CELL = 168  # side of the figure's cells, pixels
COLUMNS = 4


def flow_quality(
    root: str | os.PathLike,
    *,
    subset: str = "ms3",
    split: str = "test",
    methods: Sequence[str] = ("dis", "farneback"),
    weights: str | os.PathLike = "",
    device: str = "cpu",
    batch_size: int = 8,
    series: int = 10,
    size: int = 48,
    limit: int = 0,
    figure: str | os.PathLike = "",
) -> str:
    """Measure flow methods against the true flow of synthetic clips, and draw them.

    Args:
        root, subset, split: of a synthetic release.
        methods, weights, device, batch_size: see :func:`build_flow_method`.
        series: fields per second.
        size: side of the stored fields.
        limit: maximum number of clips; 0 for all.
        figure: PNG file that shows the methods beside the true flow; empty for no figure.

    Returns:
        the report, Markdown.

    Raises:
        SkaVctError, OSError: the input is invalid; the message says what, where and what to do.
    """
    truth = TrueFlow(root=root, subset=subset)
    records = load_records(subset, split, root)[: limit or None]
    built, missing = _build(methods, weights=weights, device=device, batch_size=batch_size)
    scores = []
    for source in ("video", "frames"):
        for method in (*built, NoFlow()):
            request = FlowRequest(source=source, series=series, size=size)
            scores.append(score_method(records, method, truth, request=request))
    if figure:
        _save(figure, draw_methods(records, [truth, *built]))
    return _report(scores, missing, len(records))


def draw_methods(records: Sequence[Mapping], methods: Sequence[FlowMethod]) -> np.ndarray:
    """One image, uint8 (H, W, 3): a column per clip, a row per method, one color scale per clip.

    Args:
        records: of ``load_records``; the clips with the strongest motion are drawn.
        methods: the first is the true flow, which sets the scale.
    """
    chosen = []
    for record in records:
        pairs, _ = read_clip(record, FlowRequest(source="video", series=1))
        fields = full_fields(pairs, methods[0])
        # Mean magnitude of each field; the clip's strongest field is drawn.
        strength = np.hypot(fields[:, 0], fields[:, 1]).mean(axis=(1, 2))
        chosen.append((float(strength.max()), record["clip_id"], pairs, int(strength.argmax())))
    chosen = _spread(sorted(chosen, key=lambda item: item[:2], reverse=True))
    frames = [resize_image(pairs.images[pairs.first[index]], (CELL, CELL)) for _, _, pairs, index in chosen]
    rows = [Row("Picture", frames, "from the raw video")]
    fields = [[_field(pairs, method, index) for _, _, pairs, index in chosen] for method in methods]
    scales = [max(float(np.hypot(*field).max()), 1e-6) for field in fields[0]]
    for method, row in zip(methods, fields, strict=True):
        cells = [flow_to_image(field, scale=scale) for field, scale in zip(row, scales, strict=True)]
        errors = [np.hypot(*(field - true)).mean() for field, true in zip(row, fields[0], strict=True)]
        rows.append(
            Row(
                method.name,
                [resize_image(cell, (CELL, CELL)) for cell in cells],
                "hue: direction,\nwhite: still",
                notes=[""] * len(row) if method is methods[0] else [f"{error:.2f} px" for error in errors],
            )
        )
    return draw_grid(
        rows,
        title="Flow between two images of a video",
        subtitle="mean end-point error in pixels; one scale of speed per column",
        headings=[record_id.rsplit("/", 1)[-1] for _, record_id, _, _ in chosen],
    )


def _spread(ranked: list[tuple]) -> list[tuple]:
    """Clips of different kinds first: the strongest of each, then the next ones."""
    seen, first, rest = set(), [], []
    for item in ranked:
        kind = item[1].rsplit("/", 1)[-1].split("_")[0]
        (rest if kind in seen else first).append(item)
        seen.add(kind)
    return (first + rest)[:COLUMNS]


def _field(pairs: ImagePairs, method: FlowMethod, index: int) -> np.ndarray:
    return method.fields(pairs, np.array([index]))[0]


def _build(
    names: Sequence[str], *, weights: str | os.PathLike, device: str, batch_size: int
) -> tuple[list[FlowMethod], dict[str, str]]:
    """Methods that can run, and why others cannot; missing weights of one method do not stop the rest."""
    methods, missing = [], {}
    for name in names:
        options = {"weights": weights, "device": device} if name.startswith("raft") else {}
        try:
            methods.append(build_flow_method(name, batch_size=batch_size, **options))
        except FlowError as error:
            missing[name] = str(error)
    return methods, missing


def _report(scores: list[FlowScore], missing: dict[str, str], clips: int) -> str:
    video = next((score for score in scores if score.source == "video" and score.method != NoFlow.name), None)
    parts = [f"{clips} clips.", markdown_table(scores, not_measured=list(missing))]
    if video:
        parts.append(f"{video.method}: {sizes_of_release(video)}")
    table = camera_table(scores)
    if table:
        parts += [
            "Share of all flow that lies on objects with motion of their own, clips with camera motion:",
            table,
        ]
    return "\n\n".join([*parts, *missing.values()])


def _save(path: str | os.PathLike, image: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(image).quantize(256).save(file, format="PNG", optimize=True)
