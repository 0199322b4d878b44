"""Whether one clip's files can be used: the mapper's own readers, asked before training rather than during it."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ska_vct.data.audio.files import AUDIO_SOURCES, choose_audio, probe_audio
from ska_vct.data.audio.log_mel import AudioError
from ska_vct.data.avsbench.subsets import AVSS_CLASSES, S4_CATEGORIES, get_subset
from ska_vct.data.flow.store import FlowError, read_flow
from ska_vct.data.images.io import ImageError, probe_image, read_image, read_truth, same_proportions
from ska_vct.data.validation.findings import ERROR, NOTE, Finding

# Sound that ends this much before its video is odd, seconds; a frame of sound coding is no oddity.
SHORT_SOUND = 0.5


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What of a clip is going to be used.

    Attributes:
        audio_source: as ``INPUT.AUDIO.SOURCE``.
        flow: whether a clip without flow is unusable.
        read_flow: whether flow that is there must be readable.
    """

    audio_source: str = "auto"
    flow: bool = False
    read_flow: bool = False

    def __post_init__(self):
        if self.audio_source not in AUDIO_SOURCES:
            raise AudioError(
                f"INPUT.AUDIO.SOURCE is '{self.audio_source}'; choose one of {', '.join(AUDIO_SOURCES)}."
            )


def check_clip(record: Mapping, needs: Needs, *, content: bool) -> list[Finding]:
    """Everything that is wrong with the files of one clip.

    Args:
        record: of ``load_records``; paths that are None were reported when it was listed and are passed over.
        needs: what will be used.
        content: read the files' contents; without it only headers and ends.
    """
    findings = list(_facts(record))
    findings += _pictures(record, content)
    findings += _sound(record, needs, content)
    findings += _flow(record, needs, content)
    return findings


def has_flow(path: str) -> bool:
    """Whether a clip has a flow file, ours or a folder of published ones."""
    return os.path.isfile(path) or os.path.isdir(path.removesuffix(".npz"))


def _facts(record: Mapping) -> Iterator[Finding]:
    category = record["category"]
    if record["subset"] == "s4" and category not in S4_CATEGORIES:
        text = f"Clip '{record['clip_id']}' is of category '{category}', none of S4's 23; it has no prototype."
        yield _finding(record, NOTE, "unknown category", text)
    unknown = [name for name in record["sem_classes"] if name not in AVSS_CLASSES] if record["label"] else []
    if unknown:
        text = f"Clip '{record['clip_id']}' names {', '.join(unknown)} in a_obj, none of AVSS's classes."
        yield _finding(record, NOTE, "unknown class", text)


def _pictures(record: Mapping, content: bool) -> Iterator[Finding]:
    first = None
    frames = record["image_paths"]
    sizes = {}
    for index, path in enumerate(frames):
        if path is None:
            continue
        try:
            size = sizes[index] = read_image(path).shape[:2] if content else probe_image(path)
        except ImageError as error:
            yield _finding(record, ERROR, "unreadable frame", str(error), path)
            continue
        first = first or size
        if size != first:
            text = f"Picture {path} is {_show(size)}, the clip's first {_show(first)}; a clip must have one size."
            yield _finding(record, ERROR, "frames of different sizes", text, path)
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
                read_image(path) if content else probe_image(path)
            except ImageError as error:
                yield _finding(record, ERROR, "unreadable segment picture", str(error), path)


def _mask_size(record: Mapping, path: str, content: bool) -> tuple[int, int]:
    if not content:
        return probe_image(path)
    subset = get_subset(record["subset"])
    return read_truth(path, binary=subset.binary_masks, num_classes=subset.num_classes).shape


def _mask_fits(
    record: Mapping, path: str, size: tuple[int, int], frame: tuple[int, int] | None
) -> Iterator[Finding]:
    if frame is None or size == frame or record["rebuilt"]:
        return
    if same_proportions(size, frame):
        text = f"Mask {path} is {_show(size)}, its frame {_show(frame)}; both are resized, which is fine."
        yield _finding(record, NOTE, "mask of another size", text, path)
    else:
        text = (
            f"Mask {path} is {_show(size)}, its frame {_show(frame)}, which have not the same proportions; unpack "
            "both again."
        )
        yield _finding(record, ERROR, "mask of other proportions", text, path)


def _sound(record: Mapping, needs: Needs, content: bool) -> Iterator[Finding]:
    files = (record["wav_path"], record["video_path"], *record["log_mel_paths"].values())
    if not any(files):
        return  # reported as missing
    path = ""
    try:
        _, path = choose_audio(record, needs.audio_source)
        seconds = probe_audio(record, needs.audio_source, content=content)
    except AudioError as error:
        yield _finding(record, ERROR, "unreadable sound" if path else "missing sound", str(error), path)
        return
    wanted = len(record["image_paths"])
    if math.isfinite(seconds) and seconds < wanted - SHORT_SOUND:
        fill = "repeated" if get_subset(record["subset"]).audio_fill == "repeat" else "followed by zeros"
        text = (
            f"The sound of clip '{record['clip_id']}' lasts {seconds:.2f} s of {wanted} s; its last second is "
            f"{fill}, as the release's authors do."
        )
        yield _finding(record, NOTE, "sound shorter than its clip", text, path)


def _flow(record: Mapping, needs: Needs, content: bool) -> Iterator[Finding]:
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
            read_flow(path, clip_id=record["clip_id"], num_frames=len(record["image_paths"]))
        except FlowError as error:
            yield _finding(record, ERROR, "unreadable flow", str(error), path)


def _finding(record: Mapping, level: str, kind: str, text: str, path: str = "") -> Finding:
    return Finding(level=level, kind=kind, text=text, path=path, clip_id=record["clip_id"])


def _show(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
