"""From an uploaded file to a video that shows the result; knows nothing of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ska_vct.data.stream.sources import VideoSource
from ska_vct.engine.predictor import Predictor
from ska_vct.engine.segment.result import Segmentation
from ska_vct.utils.errors import InputError
from ska_vct.utils.media.audio import read_video_audio
from ska_vct.utils.media.errors import NoAudioError
from ska_vct.visualization import label_palette, write_overlay_video
from ska_vct.visualization.colors import OBJECT_NAME
from ska_vct.visualization.images import resize_labels

from .work import Progress, Report

OVERLAY = "result.mp4"
# Masks are kept at most this large until they are drawn, pixels of the short side.
_KEPT_SIDE = 480


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the page accepts.

    Attributes:
        seconds: longest clip.
        megabytes: largest file.
    """

    seconds: float = 60.0
    megabytes: float = 100.0

    def __post_init__(self):
        if not (self.seconds >= 1 and self.megabytes > 0):
            raise InputError(
                f"The limits are {self.seconds:g} seconds and {self.megabytes:g} MB; allow at least a second and "
                "more than 0 MB."
            )


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a person chooses on the page.

    Attributes:
        threshold: see :class:`ska_vct.engine.segment.stream.SegmentOptions`.
        motion_map: show the motion map beside the masks.
        no_audio: go on with silence where there is no audio.
    """

    threshold: float | None = None
    motion_map: bool = True
    no_audio: bool = False


@dataclass(frozen=True)
class Result:
    """What the page shows.

    Attributes:
        video: H.264 and AAC in MP4.
        summary: lines of plain text.
    """

    video: Path
    summary: str


def segment_clip(
    predictor: Predictor, path: Path, folder: Path, choices: Choices, limits: Limits, report: Report
) -> Result:
    """Segment a video and draw the result.

    Args:
        predictor: the model.
        path: the video.
        folder: for the result.
        choices, limits: see there.
        report: called with the progress; may raise to end the work.

    Raises:
        InputError: the file is larger or longer than allowed.
        VideoError, AudioError: it cannot be used; one sentence says why.
    """
    report(Progress("Reading the file"))
    total = _check(path, choices, limits)
    parts: list[Segmentation] = []
    done = 0
    try:
        # One second is one frame.
        for part in predictor.stream(path, threshold=choices.threshold, no_audio=choices.no_audio):
            done += len(part.times)
            if done > limits.seconds + 1:
                raise InputError(_too_long(done, limits))
            parts.append(part)
            report(Progress("Segmenting", done, total and max(total, done), "seconds"))
    except NoAudioError:
        raise InputError(
            "The video has no audio, so that nothing can be heard; tick 'Silence if there is no audio' to go on."
        ) from None
    labels = np.concatenate([_shrunk(part.labels) for part in parts])
    has_map = choices.motion_map and all(part.motion_map is not None for part in parts)
    names = parts[0].class_names
    video = folder / OVERLAY
    write_overlay_video(
        video,
        labels,
        labels,
        **_audio(path, choices),
        video=path,
        palette=label_palette(len(names)),
        motion_map=np.concatenate([part.motion_map for part in parts]) if has_map else None,
        class_names=names,
        progress=lambda seconds: report(Progress("Drawing the result", seconds, done, "seconds")),
    )
    report(Progress("Done"))
    return Result(video, _summary(parts, names))


def _check(path: Path, choices: Choices, limits: Limits) -> float | None:
    """The length in seconds as the file says it."""
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise InputError(f"The file has {megabytes:.0f} MB; this page takes up to {limits.megabytes:g} MB.")
    source = VideoSource(path, no_audio=True)
    if source.duration and source.duration > limits.seconds + 1:
        raise InputError(_too_long(source.duration, limits))
    return source.duration


def _too_long(seconds: float, limits: Limits) -> str:
    return f"The clip lasts {seconds:.0f} seconds or more; this page takes up to {limits.seconds:g}. Cut it first."


def _audio(path: Path, choices: Choices) -> dict:
    try:
        samples, rate = read_video_audio(path)
    except NoAudioError:
        if not choices.no_audio:
            raise
        return {"audio": None}
    return {"audio": samples, "sample_rate": rate} if len(samples) else {"audio": None}


def _shrunk(labels: np.ndarray) -> np.ndarray:
    scale = min(1.0, _KEPT_SIDE / min(labels.shape[1:]))
    size = round(labels.shape[1] * scale), round(labels.shape[2] * scale)
    return np.stack([resize_labels(frame, size) for frame in labels]).astype(np.uint8)


def _summary(parts: Sequence[Segmentation], names: Sequence[str]) -> str:
    names = list(names) if len(names) > 2 else ["background", OBJECT_NAME]
    areas = np.concatenate([part.class_areas for part in parts])
    lines = []
    for k in np.argsort(-areas.mean(0), kind="stable"):
        shown = areas[:, k] > 0
        if k and shown.any():
            lines.append(
                f"{names[k]}: in {shown.sum()} of {len(areas)} seconds, {100 * areas[shown, k].mean():.1f} % of "
                "the image there"
            )
    lines = lines or ["Nothing was segmented: the model hears or sees no object that makes the sound."]
    level = np.concatenate([part.audio_level for part in parts]).max()
    lines.append("The clip is silent." if level <= -100 else f"Loudest second: {level:.0f} dB of full scale")
    # The last part knows all that is unusual about the file.
    return "\n".join([*lines, *parts[-1].remarks])
