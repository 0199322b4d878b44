"""Pages of clips and the gallery that leads to them (docs/visualization.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder
from ska_vct.utils.media.audio import read_video_audio, read_wav
from ska_vct.visualization.audio import encode_audio
from ska_vct.visualization.clip_rows import ClipView
from ska_vct.visualization.contact_sheet import describe_scores
from ska_vct.visualization.gallery import GalleryClip, gallery_page, strip
from ska_vct.visualization.page import Shown, clip_page, encode_image

from .clip_scores import class_scores, clip_and_frame_scores, own_frame_size, scores_note
from .predictor import ClipPrediction

GALLERY_NAME = "index.html"
_FILES = "gallery"


class PageWriter:
    """Writes a page per clip and, in the end, the gallery of all of them.

    Args:
        folder: where the pages and ``index.html`` go, and ``gallery/`` with small images and audio.
        class_names: K names, background included.
        titles: of the models that are shown, the first one's scores order the gallery.
        dataset: name of the dataset.
    """

    def __init__(self, folder: Path, *, class_names: Sequence[str], titles: Sequence[str], dataset: str) -> None:
        self._folder = folder
        self._class_names = class_names
        self._titles = _short_titles(titles)
        self._dataset = dataset
        self._clips: list[GalleryClip] = []

    def add(self, predictions: Sequence[ClipPrediction], *, name: str, video: bool) -> Path:
        """Write a clip's page.

        Args:
            predictions: of the same clip, one per model.
            name: of its files, without ending.
            video: its overlay video lies beside the page.

        Returns:
            the page's file.

        Raises:
            OSError: the folder cannot be written.
            AudioError: the clip's audio cannot be read.
        """
        first = predictions[0]
        num_classes = len(self._class_names)
        frame_size = own_frame_size(first)
        note = scores_note(first, num_classes=num_classes)
        shown, scores = [], []
        for title, prediction in zip(self._titles, predictions, strict=True):
            found, frame_scores = clip_and_frame_scores(prediction, num_classes=num_classes)
            scores.append(found)
            line = describe_scores(found, note)
            shown.append(Shown(title=title, prediction=prediction.output, scores=line, frame_scores=frame_scores))
        audio = _encoded_audio(first)
        html = clip_page(
            first.clip,
            shown,
            subtitle=self._dataset,
            audio=audio,
            class_names=self._class_names,
            frame_size=frame_size,
        )
        page = self._write(f"{name}.html", html.encode())
        # Small: a gallery may have thousands.
        image = strip(ClipView.of(first.clip, frame_size=frame_size), first.output)
        self._write(f"{_FILES}/{name}.webp", encode_image(image))
        if audio is not None:
            self._write(f"{_FILES}/{name}.m4a", audio)
        self._clips.append(
            GalleryClip(
                name=first.clip["clip_id"],
                image=f"{_FILES}/{name}.webp",
                size=(image.shape[0], image.shape[1]),
                scores=_compared(scores),
                classes=class_scores(first, class_names=self._class_names),
                page=page.name,
                audio=f"{_FILES}/{name}.m4a" if audio is not None else "",
                video=f"{name}.mp4" if video else "",
            )
        )
        return page

    def finish(self, note: str) -> Path:
        """Write the gallery; ``note`` says what the scores are."""
        models = " and ".join(self._titles)
        score = "M_J" if len(self._class_names) == 2 else "IoU"
        html = gallery_page(
            self._clips,
            title=f"{self._dataset}: {len(self._clips)} clips",
            subtitle=f"{models}; scores of each clip: {note}",
            class_note=f"means of {score} over their clips",
        )
        return self._write(GALLERY_NAME, html.encode())

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        make_folder(path.parent)
        with atomic_write(path) as file:
            file.write(data)
        return path


def own_video(record: Mapping) -> str | None:
    """The clip's own video file, if it exists."""
    video = record.get("video_path")
    return video if video and Path(video).is_file() else None


def read_audio(record: Mapping) -> tuple[np.ndarray, int] | None:
    """Samples of a clip's audio, (N, channels), and their rate in Hz; None if there is neither wav nor video.

    Raises:
        AudioError: the file cannot be read.
    """
    wav, video = record.get("wav_path"), own_video(record)
    if wav and Path(wav).is_file():
        return read_wav(wav)
    return read_video_audio(video) if video else None


def _encoded_audio(prediction: ClipPrediction) -> bytes | None:
    audio = read_audio(prediction.record)
    if audio is None or not len(audio[0]):
        return None
    index = prediction.clip.get("frame_index")
    seconds = len(prediction.clip["images"]) if index is None else int(index.max()) + 1
    return encode_audio(*audio, seconds=seconds)


def _compared(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The first model's scores; with a second one also its scores and what it gains."""
    result = dict(scores[0])
    for other in scores[1:]:
        result |= {f"{name} of the second": value for name, value in other.items()}
        result |= {f"{name} gained": value - scores[0][name] for name, value in other.items() if name in scores[0]}
    return result


def _short_titles(titles: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them have in common, but at least the last two parts."""
    parts = [Path(title).parts for title in titles]
    same = 0
    while len(parts) > 1 and all(len(part) > same + 2 and part[same] == parts[0][same] for part in parts):
        same += 1
    if len(parts) == 1:
        same = max(0, len(parts[0]) - 3)
    return [str(Path(*part[same:])) for part in parts]
