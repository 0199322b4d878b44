"""Checks one clip's files before training, with the readers that training uses."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ska_vct.data.audio.files import AUDIO_SOURCES, choose_audio, probe_audio
from ska_vct.data.flow.store import FlowError, read_flow
from ska_vct.data.images.io import (
    ImageError,
    check_image,
    may_show_the_same,
    probe_image,
    read_truth,
    same_proportions,
)
from ska_vct.data.registry import get_facts
from ska_vct.data.validation.findings import ERROR, NOTE, WARNING, Finding
from ska_vct.utils.media.errors import AudioError

# Audio that ends earlier than its video by more than this, seconds, is reported; codecs cut at their own frames.
SHORT_AUDIO = 0.5


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The parts of a clip that will be used.

    Attributes:
        audio_source: as ``INPUT.AUDIO.SOURCE``.
        flow: whether a clip without flow is unusable.
        read_flow: whether flow that is there must be readable.
        input_side: shorter side of the network's input, pixels; 0: unknown.
    """

    audio_source: str = "auto"
    flow: bool = False
    read_flow: bool = False
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
    for index, path in enumerate(record["mask_paths"]):
        if path is None:
            continue
        if frames[index] is None:
            text = f"Mask {path} belongs to a frame that is missing; unpack the frame, or leave the clip out."
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
    elif facts.twin_label and not record["rebuilt"] and min(size) < needs.input_side:
        text = (
            f"The frames of {facts.title} are {_show(size)}, and the network reads {needs.input_side} x "
            f"{needs.input_side}: they will be enlarged. The published results at that size use AVSS's larger "
            "frames of the same clips; 'datasets/prepare.py --what frames' makes them."
        )
        yield _finding(record, WARNING, "frames smaller than meant", text, folder)


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
    elif content and needs.read_flow:
        try:
            meta = read_flow(path, clip_id=record["clip_id"], num_frames=len(record["image_paths"])).meta
        except FlowError as error:
            yield _finding(record, ERROR, "unreadable flow", str(error), path)
            return
        size = meta["height"], meta["width"]
        if frame_size and not may_show_the_same(size, frame_size):
            text = (
                f"Flow {path} was computed from images of {_show(size)} pixels, the frames of clip "
                f"'{record['clip_id']}' are {_show(frame_size)}; the proportions must agree: compute it again."
            )
            yield _finding(record, ERROR, "flow of other proportions", text, path)


def _first_size(record: Mapping) -> tuple[int, int] | None:
    """Size of the clip's first frame; None where there is none that can be read, which is reported elsewhere."""
    path = next((path for path in record["image_paths"] if path), None)
    try:
        return probe_image(path) if path else None
    except ImageError:
        return None


def _finding(record: Mapping, level: str, kind: str, text: str, path: str = "") -> Finding:
    return Finding(level=level, kind=kind, text=text, path=path, clip_id=record["clip_id"])


def _show(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
