"""Clips as people have them, a folder of frames with its audio or a video file, read into memory."""

import os
import re
from pathlib import Path

import numpy as np

from ska_vct.data.audio.files import read_video_audio, read_wav
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods.registry import CLASSICAL
from ska_vct.data.images.io import read_image
from ska_vct.data.images.video_frames import count_seconds, frame_of_video
from ska_vct.utils.errors import InputError, MissingFileError

from .predictor import ClipArrays

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
AUDIO_ENDINGS = (".wav", ".flac", ".ogg")


def read_arrays(path: str | os.PathLike, *, method: str = "dis", series: int = 10) -> ClipArrays:
    """A clip from a folder or a video file.

    Args:
        path: a folder of images, one per second in the order of the numbers in their names, and one audio file; or
            a video with an audio track, of which one frame per second is taken.
        method: classical flow method for a video (``INPUT.FLOW.METHOD``); the predictor computes a folder's flow.
        series: flow fields per second of a video.

    Returns:
        the clip, named after the folder or file.

    Raises:
        FileNotFoundError: there is no such folder or file.
        InputError: the folder does not hold images of one size and one audio file.
        ImageError, AudioError, FlowError, VideoFrameError: a file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise MissingFileError(f"There is no folder or video '{path}'.")
    return _read_video(path, method, series)


def _read_folder(folder: Path) -> ClipArrays:
    files = [file for file in folder.iterdir() if file.is_file()]
    images = sorted((file for file in files if file.suffix.lower() in IMAGE_ENDINGS), key=_number_order)
    audio = sorted(file for file in files if file.suffix.lower() in AUDIO_ENDINGS)
    if not images or len(audio) != 1:
        raise InputError(
            f"Folder '{folder}' has {len(images)} images ({', '.join(IMAGE_ENDINGS)}) and {len(audio)} audio "
            f"files ({', '.join(AUDIO_ENDINGS)}); a clip is one image per second and one audio file."
        )
    frames = [read_image(file) for file in images]
    odd = next((file for file, frame in zip(images, frames, strict=True) if frame.shape != frames[0].shape), None)
    if odd is not None:
        raise InputError(
            f"Image '{odd}' has another size than '{images[0]}'; the frames of a clip must have one size."
        )
    return ClipArrays(frames=np.stack(frames), audio=read_wav(audio[0]), name=folder.resolve().name)


def _read_video(path: Path, method: str, series: int) -> ClipArrays:
    names = [frame_of_video(str(path), second) for second in range(count_seconds(path))]
    record = {"clip_id": path.stem, "image_paths": names, "video_path": str(path)}
    request = FlowRequest(method=method, source="video", series=series)
    pairs, _ = read_clip(record, request)
    flow = compute_clip(record, request, CLASSICAL[method](), pairs)
    return ClipArrays(
        frames=np.stack([read_image(name) for name in names]),
        audio=read_video_audio(path),
        flow=flow.flow,
        name=path.stem,
    )


def _number_order(path: Path) -> list[tuple[int, int, str]]:
    """``frame_2`` before ``frame_10``."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
