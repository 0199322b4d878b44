"""Rows of images about one clip, one image per frame: what the model saw and predicted, and the ground truth.

Contact sheets and pages are made of the same rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from ska_vct.structures.clip import IGNORE_LABEL, ClipError
from ska_vct.utils.palette import voc_palette

from .canvas import Row, scale_bar
from .colors import BINARY_PALETTE, OBJECT_NAME, OUTCOMES
from .images import (
    flow_to_image,
    heat,
    log_mel_image,
    outcome_map,
    overlay_heat,
    overlay_labels,
    overlay_outcomes,
    resize_image,
    strongest_field,
)

SILENCE = float(np.log(0.01))  # log-mel of true silence
PATCH_SECONDS = 0.96  # 96 steps of 10 ms
MIN_SIDE, MAX_SIDE = 160, 224  # short side of a cell, pixels
MAX_LONG = 640  # long side of a cell, however narrow the video is
NO_TRUTH = "no ground truth"

Legend = list[tuple[str, tuple[int, int, int]]]


@dataclass(frozen=True)
class ClipView:
    """A clip made ready to be drawn; only frames that exist.

    Attributes:
        clip: as ``structures/clip.py`` describes it.
        kept: bool (T,), which of its frames exist.
        frames: uint8 (H, W, 3) each, in the clip's own proportions.
        truth: ground truth, int (t, h, w), 255 where there is none; None without any.
        annotated: bool (t,), which frames have ground truth.
        seconds: int (t,), the second that each frame stands for.
        times: when the frames are shown, seconds, where they are not one per second of a dataset's clip.
    """

    clip: Mapping
    kept: np.ndarray
    frames: list[np.ndarray]
    truth: np.ndarray | None
    annotated: np.ndarray
    seconds: np.ndarray
    times: Sequence[float] | None = None

    @classmethod
    def of(
        cls,
        clip: Mapping,
        *,
        frame_size: tuple[int, int] | None = None,
        max_side: int = MAX_SIDE,
        times: Sequence[float] | None = None,
    ) -> "ClipView":
        """Prepare a clip.

        Args:
            clip: the clip.
            frame_size: height and width whose proportions the frames take; those of ``images``, which may have
                been squeezed for the network, when None.
            max_side: largest short side of a frame, pixels.
            times: when the frames are shown, seconds; None: one per second.
        """
        kept = clip["frame_valid"].cpu().numpy()
        truth, annotated = _truth(clip, kept)
        frames = _frames(clip, kept, frame_size, max_side)
        return cls(clip, kept, frames, truth, annotated, _frame_index(clip)[kept], times)

    @property
    def headings(self) -> list[str]:
        """One per frame."""
        if self.times is not None:
            return [f"{time:.1f} s" for time in self.times]
        return [f"second {second}" for second in self.seconds]

    @property
    def subtitle(self) -> str:
        """What is missing; nothing of a video, for which nobody expects a ground truth."""
        return NO_TRUTH if self.truth is None and self.times is None else ""

    @property
    def no_truth(self) -> list[str]:
        """Per frame a note where it has no ground truth."""
        return ["" if known else NO_TRUTH for known in self.annotated]

    def rows_of(self, values: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
        """Rows of the frames that exist; ``values`` has one per frame of the clip, or these only.

        Raises:
            ClipError: it has another number of rows.
        """
        if isinstance(values, torch.Tensor):
            values = values.detach().float().cpu().numpy()
        if len(values) not in (len(self.kept), self.kept.sum()):
            raise ClipError(
                f"Clip '{self.clip['clip_id']}' has {len(self.kept)} frames but its {name} has {len(values)}."
            )
        return values[self.kept] if len(values) == len(self.kept) else values

    def heat_row(
        self, title: str, values: np.ndarray, subtitle: str, *, opacity: float = 0.6, top: float = 1.0
    ) -> Row:
        """Maps (t, h, w) as heat over the frames; ``top`` is the brightest value."""
        cells = [
            overlay_heat(frame, value / top, opacity=opacity)
            for frame, value in zip(self.frames, values, strict=True)
        ]
        return Row(title, cells, subtitle, key=heat_scale(f"{top:.2g}"))

    def label_row(
        self, title: str, labels: np.ndarray, palette: np.ndarray, subtitle: str = "", notes: Sequence[str] = ()
    ) -> Row:
        """Labels (t, h, w) over the frames."""
        cells = [overlay_labels(frame, values, palette) for frame, values in zip(self.frames, labels, strict=True)]
        return Row(title, cells, subtitle, notes=notes)


@dataclass(frozen=True)
class PredictionRows:
    """What a model predicted for a clip.

    Attributes:
        labels: int (t, h, w).
        binary: there are two classes.
        prediction: the masks, and the probability where it is known.
        errors: against the ground truth; None without any.
        legend: names and colours of the classes that occur, and of the kinds of error.
    """

    labels: np.ndarray
    binary: bool
    prediction: list[Row]
    errors: Row | None
    legend: Legend = field(default_factory=list)


def predicted_rows(
    view: ClipView,
    prediction: Mapping,
    *,
    class_names: Sequence[str] = (),
    frame_scores: Sequence[float] | None = None,
) -> PredictionRows:
    """Rows of the prediction itself; arguments as those of ``contact_sheet``."""
    labels = view.rows_of(prediction_labels(prediction), "prediction")
    binary = len(class_names) == 2 if class_names else is_binary(prediction, labels, view.truth)
    palette = palette_of(binary)
    notes = ()
    if frame_scores is not None:
        notes = ["" if np.isnan(score) else f"IoU {100 * score:.0f} %" for score in frame_scores]
    threshold = prediction.get("threshold")
    if threshold is None and binary:
        threshold = 0.5
    subtitle = "highest score" if threshold is None else f"p > {threshold:g}"
    rows = [view.label_row("Prediction", labels, palette, subtitle, notes)]
    if prediction.get("sem_seg") is not None or prediction.get("scores") is not None:
        rows.append(_probability_row(view, prediction, binary=binary))
    errors, outcomes = None, []
    if view.truth is not None:
        cells = [overlay_outcomes(*triple) for triple in zip(view.frames, labels, view.truth, strict=True)]
        errors = Row("Errors", cells, "against the\nground truth", notes=view.no_truth)
        present = np.unique(outcome_map(labels, view.truth))
        outcomes = [OUTCOMES[k] for k in range(1, len(OUTCOMES)) if k < 4 or k in present]
    maps = [labels] if view.truth is None else [view.truth, labels]
    legend = class_legend(maps, class_names, palette, binary) + outcomes
    return PredictionRows(labels, binary, rows, errors, legend)


def frames_row(view: ClipView) -> Row:
    """The frames themselves."""
    return Row("Frames", view.frames, "one per second" if view.times is None else "")


def truth_row(view: ClipView, *, binary: bool) -> Row | None:
    """The ground truth; None without any."""
    if view.truth is None:
        return None
    return view.label_row("Ground truth", view.truth, palette_of(binary), notes=view.no_truth)


def flow_row(view: ClipView) -> Row | None:
    """The strongest flow field of each second; None without flow."""
    if view.clip.get("flow") is None:
        return None
    size = view.frames[0].shape[:2]
    flow = strongest_field(view.clip["flow"].cpu().numpy()[view.kept])
    cells = [cv2.resize(cell, size[::-1], interpolation=cv2.INTER_LINEAR) for cell in flow_to_image(flow)]
    return Row("Flow", cells, "hue: direction,\nwhite: still", key=_wheel())


def log_mel_row(view: ClipView) -> Row:
    """The audio of each frame."""
    log_mel = view.clip["log_mel"].cpu().numpy()[view.kept, 0]
    high = max(float(log_mel.max()), SILENCE + 1)
    height, width = view.frames[0].shape[:2]
    return Row(
        "Log-mel",
        [log_mel_image(patch, (max(height // 2, 64), width), low=SILENCE, high=high) for patch in log_mel],
        "125-7500 Hz",
        # Where patches lie in a longer video, the headings say.
        ticks=[
            [(0.0, f"{PATCH_SECONDS * second:.2f} s"), (0.5, f"{PATCH_SECONDS * (second + 0.5):.2f}")]
            for second in view.seconds
        ]
        if view.times is None
        else (),
    )


def map_rows(view: ClipView, prediction: Mapping) -> list[Row]:
    """The motion map and the boundary, as far as the model returned them."""
    names = (("motion_map", "Motion map", "of SKA"), ("boundary", "Boundary", "of BRM"))
    return [
        view.heat_row(title, view.rows_of(prediction[name], name), subtitle)
        for name, title, subtitle in names
        if prediction.get(name) is not None
    ]


def attention_rows(view: ClipView, prediction: Mapping) -> list[Row]:
    """A row per head of SKA; each head's brightest location is that with its largest weight in the clip."""
    if prediction.get("attention") is None:
        return []
    heads = view.rows_of(prediction["attention"], "attention").swapaxes(0, 1)
    return [
        view.heat_row(
            f"SKA head {k + 1}", values, "attention to the\nflow's locations", top=float(values.max()) or 1.0
        )
        for k, values in enumerate(heads)
    ]


def query_rows(view: ClipView, prediction: Mapping) -> list[Row]:
    """Activation of all queries and of the strongest ones, before and after the motion prompt, to one scale."""
    if prediction.get("activation") is None:
        return []
    after, before = prediction["queries"], prediction.get("queries_plain")
    series = [("All queries", "", prediction["activation"], prediction.get("activation_plain"))]
    for place, index in enumerate(prediction["query_index"].tolist()):
        name = "Strongest query" if place == 0 else f"Query no. {place + 1}"
        own = None if before is None else before[:, place]
        series.append((name, f"query {index}", after[:, place], own))
    rows = []
    for title, subtitle, *pair in series:
        maps = [None if values is None else view.rows_of(values, "activation") for values in pair]
        top = max(float(values.max()) for values in maps if values is not None) or 1.0
        for values, text in ((maps[1], "\nbefore the prompt"), (maps[0], "\nafter the prompt")):
            if values is not None:
                text = text if maps[1] is not None else ""
                rows.append(view.heat_row(f"{title}{text}", values, subtitle, top=top))
    return rows


def palette_of(binary: bool) -> np.ndarray:
    """Colours of labels, uint8 (K, 3)."""
    return BINARY_PALETTE if binary else voc_palette(256)


def prediction_labels(prediction: Mapping) -> np.ndarray:
    """Class per pixel, int64 (T, h, w): ``labels`` where given, else the argmax of ``sem_seg``.

    For two classes that is p > 0.5 of their softmax, as in the scores.
    """
    if prediction.get("labels") is not None:
        return np.asarray(prediction["labels"], np.int64)
    return prediction["sem_seg"].detach().argmax(1).cpu().numpy()


def is_binary(prediction: Mapping, *labels: np.ndarray | None) -> bool:
    """Whether there are two classes; of saved labels that is known by what they and the ground truth hold."""
    if prediction.get("sem_seg") is not None:
        return prediction["sem_seg"].shape[1] == 2
    return all((values < 2).sum() == (values != IGNORE_LABEL).sum() for values in labels if values is not None)


def class_legend(maps: Sequence[np.ndarray], names: Sequence[str], palette: np.ndarray, binary: bool) -> Legend:
    """Names and colours of the classes that occur in label maps."""
    present = sorted(set(np.concatenate([np.unique(m) for m in maps]).tolist()) - {0, IGNORE_LABEL})
    if binary:
        names = ("background", OBJECT_NAME)
    return [(names[k] if k < len(names) else f"class {k}", tuple(palette[k].tolist())) for k in present]


def heat_scale(top: str = "1") -> np.ndarray:
    """The colours of heat maps from 0 to ``top``."""
    return scale_bar(heat(np.linspace(0, 1, 96)[None])[0], "0", top)


def _probability_row(view: ClipView, prediction: Mapping, *, binary: bool) -> Row:
    """The object's probability, or the score of the class that is shown."""
    if prediction.get("sem_seg") is None:
        values = np.asarray(prediction["scores"], np.float32)
    else:
        scores = prediction["sem_seg"].detach().float()
        values = scores.softmax(1)[:, 1] if binary else scores[:, 1:].amax(1).clamp(0, 1)
    title, subtitle = ("Probability", "of the object") if binary else ("Score", "highest of all\nbut background")
    return view.heat_row(title, view.rows_of(values, "prediction"), subtitle, opacity=0.8)


def _frames(
    clip: Mapping, kept: np.ndarray, frame_size: tuple[int, int] | None, max_side: int
) -> list[np.ndarray]:
    """The frames that exist, in the proportions of ``frame_size``, at the size of a cell."""
    images = clip["images"].cpu().numpy()[kept].transpose(0, 2, 3, 1)
    height, width = frame_size or images.shape[1:3]
    short = min(height, width)
    scale = min(max(min(images.shape[1:3]), MIN_SIDE), max_side) / short
    scale = min(scale, MAX_LONG / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return [resize_image(np.ascontiguousarray(image), size) for image in images]


def _truth(clip: Mapping, kept: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Ground truth of the frames that exist, 255 where there is none, or None; and which frames have it."""
    annotated = clip["mask_valid"].cpu().numpy()[kept]
    if clip.get("masks") is None or not annotated.any():
        return None, annotated
    masks = clip["masks"].cpu().numpy()[kept]
    return np.where(annotated[:, None, None], masks, IGNORE_LABEL), annotated


def _frame_index(clip: Mapping) -> np.ndarray:
    index = clip.get("frame_index")
    return np.arange(len(clip["images"])) if index is None else torch.as_tensor(index).cpu().numpy()


def _wheel(radius: int = 22) -> np.ndarray:
    """The colour wheel itself, as a key: a pixel's colour is that of motion from the centre towards it."""
    steps = np.linspace(-1, 1, 2 * radius + 1, dtype=np.float32)
    u, v = np.meshgrid(steps, steps)
    image = flow_to_image(np.stack([u, v]), scale=1.0)
    image[u**2 + v**2 > 1] = 255
    return image
