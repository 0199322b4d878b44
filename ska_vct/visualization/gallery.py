"""All clips of an evaluation on one page that sorts them: worst and best first, by class, with their audio.

The page is opened from disk, without a server, beside the files it shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from .clip_rows import NO_TRUTH, ClipView
from .colors import OBJECT_NAME, ORANGE, OUTCOMES
from .contact_sheet import overview_cells
from .images import letterbox
from .page import template

STRIP_HEIGHT = 112
_GAP = 4


@dataclass(frozen=True, kw_only=True)
class GalleryClip:
    """A clip on the page; files are named relative to it.

    Attributes:
        name: the clip's id.
        image: file of its ``strip``.
        size: height and width of that.
        scores: shares by name, e.g. ``M_J``; empty without ground truth.
        classes: name of each class that the clip shows -> its score in this clip, a share.
        page: the clip's own page; empty for none.
        audio, video: files; empty for none.
    """

    name: str
    image: str
    size: tuple[int, int]
    scores: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)
    page: str = ""
    audio: str = ""
    video: str = ""


def strip(view: ClipView, prediction: Mapping) -> np.ndarray:
    """Up to 5 frames beside each other with errors in colour, or with the prediction, uint8 (H, W, 3)."""
    cells, _ = overview_cells(view, prediction)
    height, width = cells[0].shape[:2]
    size = (STRIP_HEIGHT, max(1, round(STRIP_HEIGHT * width / height)))
    gap = np.full((STRIP_HEIGHT, _GAP, 3), 255, np.uint8)
    return np.concatenate([part for cell in cells for part in (gap, letterbox(cell, size))][1:], axis=1)


def gallery_page(clips: Sequence[GalleryClip], *, title: str, subtitle: str = "", class_note: str = "") -> str:
    """HTML of the gallery.

    Args:
        clips: all that are shown.
        title: e.g. the dataset's name.
        subtitle: what the scores are.
        class_note: what the classes' scores are.
    """
    by_class: dict[str, list[float]] = {}
    for clip in clips:
        for name, score in clip.classes.items():
            by_class.setdefault(name, []).append(score)
    classes = [
        {"name": name, "count": len(scores), "mean": fmean(scores)}
        for name, scores in sorted(by_class.items(), key=lambda item: fmean(item[1]))
    ]
    index = {row["name"]: number for number, row in enumerate(classes)}
    names = list(dict.fromkeys(name for clip in clips for name in clip.scores))
    kinds = [OUTCOMES[k] for k in range(1, len(OUTCOMES)) if k < 4 or len(classes) > 1]
    return template("gallery.html").render(
        title=title,
        subtitle=subtitle,
        class_note=class_note,
        scores=names,
        classes=classes,
        legend=[*kinds, (f"{OBJECT_NAME}, {NO_TRUTH}", ORANGE)],
        clips=[
            {
                "name": clip.name,
                "image": clip.image,
                "size": clip.size,
                "scores": {name: clip.scores[name] for name in names} if clip.scores else {},
                "classes": [(index[name], name) for name in clip.classes],
                "class_scores": " ".join(f"{index[name]}:{score:.6f}" for name, score in clip.classes.items()),
                "page": clip.page,
                "audio": clip.audio,
                "video": clip.video,
            }
            for clip in sorted(clips, key=lambda clip: next(iter(clip.scores.values()), 2.0))
        ],
    )
