"""Clips as folders of frames with their audio, read into memory."""

import re
from pathlib import Path

import numpy as np

from ska_vct.data.audio.files import read_wav
from ska_vct.data.images.io import read_image
from ska_vct.utils.errors import InputError

from .predictor import ClipArrays

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
AUDIO_ENDINGS = (".wav", ".flac", ".ogg")


def read_folder(folder: Path) -> ClipArrays:
    """A clip from a folder of images, one per second in the order of their numbers, and one audio file.

    Returns:
        the clip, named after the folder.

    Raises:
        InputError: the folder does not hold images of one size and one audio file.
        ImageError, AudioError: a file cannot be read.
    """
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


def _number_order(path: Path) -> list[tuple[int, int, str]]:
    """``frame_2`` before ``frame_10``."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
