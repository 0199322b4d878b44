"""Flow methods against synthetic clips' true flow, as ``datasets/flow_quality.py`` prints and draws it."""

import argparse
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

CELL = 168  # side of a picture's cells, pixels
COLUMNS = 4


def flow_quality(args: argparse.Namespace) -> str:
    """Measure methods and draw them.

    Args:
        args: ``root``, ``subset`` and ``split`` of a synthetic release; ``methods``, ``weights``, ``device`` and
            ``batch_size`` as for computing flow; ``series``, ``size``; ``limit``, clips at most; ``picture``, the
            file to draw to, or empty.

    Returns:
        the report, Markdown.

    Raises:
        ValueError, OSError: the input is wrong; one sentence says what, where, and what to do.
    """
    truth = TrueFlow(root=args.root, subset=args.subset)
    records = load_records(args.subset, args.split, args.root)[: args.limit or None]
    methods, missing = _build(args)
    scores = []
    for source in ("video", "frames"):
        for method in (*methods, NoFlow()):
            request = FlowRequest(source=source, series=args.series, size=args.size)
            scores.append(score_method(records, method, truth, request=request))
    if args.picture:
        _save(args.picture, draw_methods(records, [truth, *methods]))
    return _report(scores, missing, len(records))


def draw_methods(records: Sequence[Mapping], methods: Sequence[FlowMethod]) -> np.ndarray:
    """One picture: columns are clips, rows the methods, in one colour scale per clip; uint8 (H, W, 3).

    Args:
        records: of ``load_records``; those in whose video most moves are drawn.
        methods: the first is the truth, which gives the scale.
    """
    chosen = []
    for record in records:
        pairs, _ = read_clip(record, FlowRequest(source="video", series=1))
        fields = full_fields(pairs, methods[0])
        # A field as strong as the clip's are on the whole.
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
        title="Flow between two pictures of a video",
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


def _build(args: argparse.Namespace) -> tuple[list[FlowMethod], dict[str, str]]:
    """Methods, and why others cannot run: a missing network's weights are no reason to measure nothing."""
    methods, missing = [], {}
    for name in args.methods:
        options = {"weights": args.weights, "device": args.device} if name.startswith("raft") else {}
        try:
            methods.append(build_flow_method(name, batch_size=args.batch_size, **options))
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
            "Share of all flow that lies on objects which move of themselves, clips with camera motion:",
            table,
        ]
    return "\n\n".join([*parts, *missing.values()])


def _save(path: str, picture: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(picture).quantize(256).save(file, format="PNG", optimize=True)
