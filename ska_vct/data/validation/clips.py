"""Checks one clip's files before training, with the readers that training uses."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ska_vct.data.audio.files import AUDIO_SOURCES, choose_audio, probe_audio
from ska_vct.data.avsbench.locate import is_prepared
from ska_vct.data.flow.store import FlowError, read_flow
from ska_vct.data.images.io import (
    ImageError,
    check_image,
    may_show_the_same,
    probe_image,
    read_truth,
    same_proportions,
)
from ska_vct.data.images.video_frames import frame_rate, split_fragment
from ska_vct.data.registry import get_facts
from ska_vct.data.validation.findings import ERROR, NO_FLOW, NOTE, WARNING, Finding
from ska_vct.utils.media.errors import AudioError

# Audio that ends earlier than its video by more than this, seconds, is reported; codecs cut at their own frames.
SHORT_AUDIO = 0.5
# Audio beyond the clip's last frame by more than this, seconds, is reported.
UNUSED_AUDIO = 1.0
# Advice of the readers of files, which do not know who made them.
_UNPACK = "unpack or make it again"
# Fields per second that are computed from fewer images per second than this share of them repeat.
_DISTINCT = 0.8


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The parts of a clip that will be used.

    Attributes:
        audio_source: as ``INPUT.AUDIO.SOURCE``.
        flow: whether a clip without flow is unusable.
        read_flow: whether flow that is there must be readable.
        zero_flow: whether a clip without flow is used as if nothing moved.
        series: flow fields per second that the model reads, ``INPUT.FLOW.SERIES``; 0: unknown.
        input_side: shorter side of the network's input, pixels; 0: unknown.
    """

    audio_source: str = "auto"
    flow: bool = False
    read_flow: bool = False
    zero_flow: bool = False
    series: int = 0
    input_side: int = 0

    def __post_init__(self):
        if self.audio_source not in AUDIO_SOURCES:
            raise AudioError(
                f"INPUT.AUDIO.SOURCE is '{self.audio_source}'; choose one of {', '.join(AUDIO_SOURCES)}."
            )


def check_clip(record: Mapping, needs: Needs, *, content: bool) -> list[Finding]:
    """Find everything that is wrong with the files of one clip.

    Args:
        record: of ``load_records``; paths that are None were reported when it was listed and are passed over.
        needs: what will be used.
        content: read the files' contents; without it only headers and ends.
    """
    findings = list(_facts(record))
    findings += _images(record, needs, content)
    findings += _audio(record, needs, content)
    findings += _flow(record, needs, content, _first_size(record))
    return findings


def has_flow(path: str) -> bool:
    """Whether a clip has a flow file, ours or a folder of published ones."""
    return os.path.isfile(path) or os.path.isdir(path.removesuffix(".npz"))


def _facts(record: Mapping) -> Iterator[Finding]:
    facts, category = get_facts(record["subset"]), record["category"]
    if facts.categories and category not in facts.categories:
        text = (
            f"Clip '{record['clip_id']}' is of category '{category}', none of the {len(facts.categories)} of "
            f"{facts.title}; it has no prototype."
        )
        yield _finding(record, NOTE, "unknown category", text)
    named = record["sem_classes"] if not facts.binary_masks else ()
    unknown = [name for name in named if name not in facts.classes]
    if unknown:
        text = f"Clip '{record['clip_id']}' names {', '.join(unknown)}, none of the classes of {facts.title}."
        yield _finding(record, NOTE, "unknown class", text)


def _images(record: Mapping, needs: Needs, content: bool) -> Iterator[Finding]:
    first = None
    frames = record["image_paths"]
    sizes = {}
    for index, path in enumerate(frames):
        if path is None:
            continue
        try:
            size = sizes[index] = check_image(path) if content else probe_image(path)
        except ImageError as error:
            yield _finding(record, ERROR, "unreadable frame", str(error), path)
            continue
        first = first or size
        if size != first:
            text = f"Image {path} is {_show(size)}, the clip's first {_show(first)}; a clip must have one size."
            yield _finding(record, ERROR, "frames of different sizes", text, path)
    if first:
        yield from _large_enough(record, first, needs)
        yield from _enough_images(record)
    for index, path in enumerate(record["mask_paths"]):
        if path is None:
            continue
        if frames[index] is None:
            advice = "run datasets/prepare.py again" if is_prepared(path) else "unpack the frame"
            text = f"Mask {path} belongs to a frame that is missing; {advice}, or leave the clip out."
            yield _finding(record, ERROR, "mask without its frame", text, path)
        try:
            size = _mask_size(record, path, content)
        except ImageError as error:
            yield _finding(record, ERROR, "unreadable mask", str(error), path)
            continue
        yield from _mask_fits(record, path, size, sizes.get(index))
    for path in record["pre_mask_paths"] or ():
        if path is not None:
            try:
                check_image(path) if content else probe_image(path)
            except ImageError as error:
                yield _finding(record, ERROR, "unreadable pre-mask", str(error), path)


def _large_enough(record: Mapping, size: tuple[int, int], needs: Needs) -> Iterator[Finding]:
    """Frames of 224 px where 384 px were meant: AVSBench-object's own, or a folder that was misnamed."""
    facts, folder = get_facts(record["subset"]), record["image_paths"][0] or ""
    meant = next((images.side for images in facts.image_sets if images.state == record["image_state"]), 0)
    if record["rebuilt"] and min(size) < meant:
        text = (
            f"The frames in {os.path.dirname(folder)} are {_show(size)}, but the folder's name promises {meant} x "
            f"{meant}; make them again from AVSS's larger frames (datasets/prepare.py --what frames), or set "
            "DATASETS.PREFER_REBUILT to False."
        )
        yield _finding(record, WARNING, "frames smaller than meant", text, folder)
    elif record["rebuilt"]:
        return
    elif facts.twin_label and min(size) < needs.input_side:
        text = (
            f"The frames of {facts.title} are {_show(size)}, and the network reads {needs.input_side} x "
            f"{needs.input_side}: they will be enlarged. The published results at that size use AVSS's larger "
            "frames of the same clips; 'datasets/prepare.py --what frames' makes them."
        )
        yield _finding(record, WARNING, "frames smaller than meant", text, folder)
    elif max(size) < needs.input_side:
        text = (
            f"The frames of clip '{record['clip_id']}' are {_show(size)}, and the network reads "
            f"{needs.input_side} x {needs.input_side}: they will be enlarged. A smaller INPUT.SIZE takes less "
            "time and shows the same."
        )
        yield _finding(record, NOTE, "frames smaller than the network's input", text, folder)


def _enough_images(record: Mapping) -> Iterator[Finding]:
    """Videos of less than one image per second, whose seconds share images."""
    video, time = split_fragment(record["image_paths"][0] or "")
    rate = frame_rate(video) if time is not None else 0.0
    if 0 < rate < 1:
        text = (
            f"Video {video} has {rate:.2g} images per second, so some of the {len(record['image_paths'])} frames "
            f"of clip '{record['clip_id']}' are the same image."
        )
        yield _finding(record, WARNING, "repeated frames", text, video)


def _mask_size(record: Mapping, path: str, content: bool) -> tuple[int, int]:
    if not content:
        return probe_image(path)
    subset = get_facts(record["subset"])
    return read_truth(path, binary=subset.binary_masks, num_classes=subset.num_classes).shape


def _mask_fits(
    record: Mapping, path: str, size: tuple[int, int], frame: tuple[int, int] | None
) -> Iterator[Finding]:
    if frame is None or size == frame or record["rebuilt"]:
        return
    if same_proportions(size, frame):
        text = f"Mask {path} is {_show(size)}, its frame {_show(frame)}; both are resized."
        yield _finding(record, NOTE, "mask of another size", text, path)
    else:
        text = (
            f"Mask {path} is {_show(size)}, its frame {_show(frame)}, whose proportions differ; unpack both again."
        )
        yield _finding(record, ERROR, "mask of other proportions", text, path)


def _audio(record: Mapping, needs: Needs, content: bool) -> Iterator[Finding]:
    files = (record["wav_path"], record["video_path"], *record["log_mel_paths"].values())
    if not any(files):
        return  # reported as missing
    path = ""
    try:
        _, path = choose_audio(record, needs.audio_source)
        seconds = probe_audio(record, needs.audio_source, content=content)
    except AudioError as error:
        yield _finding(record, ERROR, "unreadable audio" if path else "missing audio", str(error), path)
        return
    wanted = len(record["image_paths"])
    # A log-mel may be padded; samples are not.
    if path in (record["wav_path"], record["video_path"]) and wanted + UNUSED_AUDIO < seconds < math.inf:
        text = (
            f"The audio of clip '{record['clip_id']}' lasts {seconds:.2f} s, of which only the {wanted} s that "
            "have frames are used."
        )
        yield _finding(record, NOTE, "seconds not used", text, path)
    if math.isfinite(seconds) and seconds < wanted - SHORT_AUDIO:
        fill = "repeated" if get_facts(record["subset"]).audio_fill == "repeat" else "followed by zeros"
        text = (
            f"The audio of clip '{record['clip_id']}' lasts {seconds:.2f} s of {wanted} s; its last second is "
            f"{fill}, as the release's authors do."
        )
        yield _finding(record, NOTE, "audio shorter than its clip", text, path)


def _flow(record: Mapping, needs: Needs, content: bool, frame_size: tuple[int, int] | None) -> Iterator[Finding]:
    path = record["flow_path"]
    if not has_flow(path):
        if needs.flow:
            text = (
                f"Clip '{record['clip_id']}' has no flow file {path}; compute the flow, or set INPUT.FLOW.MISSING "
                "to zero."
            )
            yield _finding(record, ERROR, "missing flow", text, path)
        elif needs.zero_flow:
            text = (
                f"Clip '{record['clip_id']}' has no flow file {path}; it is used as if nothing moved "
                "(INPUT.FLOW.MISSING zero), so its motion map is zero."
            )
            yield _finding(record, WARNING, NO_FLOW, text, path)
    elif content and needs.read_flow:
        try:
            stored = read_flow(path, clip_id=record["clip_id"], num_frames=len(record["image_paths"]))
        except FlowError as error:
            yield _finding(record, ERROR, "unreadable flow", str(error), path)
            return
        meta = stored.meta
        yield from _enough_fields(record, path, needs, stored.flow.shape[1], meta)
        size = meta["height"], meta["width"]
        if frame_size and not may_show_the_same(size, frame_size):
            text = (
                f"Flow {path} was computed from images of {_show(size)} pixels, the frames of clip "
                f"'{record['clip_id']}' are {_show(frame_size)}; the proportions must agree: compute it again."
            )
            yield _finding(record, ERROR, "flow of other proportions", text, path)


def _enough_fields(record: Mapping, path: str, needs: Needs, series: int, meta: Mapping) -> Iterator[Finding]:
    """Flow that does not hold as many different fields per second as the model reads."""
    clip = f"clip '{record['clip_id']}'"
    if series < needs.series:
        text = (
            f"Flow {path} has {series} per second, but INPUT.FLOW.SERIES is {needs.series}: the same field is "
            f"read {needs.series / series:.3g} times, so that motion within the second of {clip} cannot be "
            f"matched with its audio. Compute it from the video with --series {needs.series}, or set "
            f"INPUT.FLOW.SERIES to {series}."
        )
        yield _finding(record, WARNING, "too few flow fields", text, path)
    elif meta["source"] == "video" and needs.series > 1 and 1 < _DISTINCT * needs.series * meta["time_step"]:
        text = (
            f"The video of {clip} shows {1 / meta['time_step']:.3g} different images per second, so that its "
            f"{needs.series} flow fields per second repeat; set INPUT.FLOW.SERIES to "
            f"{max(1, round(1 / meta['time_step']))} if most clips are like it."
        )
        yield _finding(record, WARNING, "repeated flow fields", text, path)


def _first_size(record: Mapping) -> tuple[int, int] | None:
    """Size of the clip's first frame; None where there is none that can be read, which is reported elsewhere."""
    path = next((path for path in record["image_paths"] if path), None)
    try:
        return probe_image(path) if path else None
    except ImageError:
        return None


def _finding(record: Mapping, level: str, kind: str, text: str, path: str = "") -> Finding:
    if level == ERROR and path and is_prepared(path):
        text = text.replace(_UNPACK, "run datasets/prepare.py again, which replaces it")
    return Finding(level=level, kind=kind, text=text, path=path, clip_id=record["clip_id"])


def _show(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
