"""Turns a folder of videos, and masks if there are any, into a dataset as ``configs/own`` describes it.

======================================  ==========================================================================
written                                 from
======================================  ==========================================================================
``videos/{split}/{clip}.mp4``           a copy of, or a link to, the video; frames and audio are read from it
``frames/{split}/{clip}/{second}.png``  the frame of each second, for annotating; see ``sample_time``
``masks/{split}/{clip}/{second}.png``   a mask of that frame, 0 and 255
``own.yaml``                            a config: ``configs/own/r50.yaml`` on this dataset
======================================  ==========================================================================
"""

import json
import os
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ska_vct.config_files import find_config
from ska_vct.data.avsbench.csv_table import check_name
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.facts import SPLITS
from ska_vct.data.images.io import ImageError, read_binary_mask, read_image, same_proportions, write_png
from ska_vct.data.images.video_frames import count_seconds, frame_of_video
from ska_vct.utils.files import atomic_path, atomic_write
from ska_vct.utils.media.audio import video_audio_seconds
from ska_vct.utils.media.errors import AudioError, VideoError
from ska_vct.utils.threads import in_threads

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ogv", ".mpg", ".mpeg", ".ts", ".wmv")
CONFIG = "own.yaml"
# Shares of train, val and test where the folder does not divide the videos itself.
SHARES = (0.8, 0.1, 0.1)
_NUMBER = re.compile(r"(\d+)$")


@dataclass
class Outcome:
    """What was written.

    Attributes:
        clips: split -> clips.
        seconds: frames written in all.
        masks: masks written in all.
        failed: one sentence per video that cannot be used.
    """

    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    seconds: int = 0
    masks: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Clip:
    video: Path
    split: str
    masks: Mapping[int, Path]


def make_dataset(
    videos: str | os.PathLike,
    out: str | os.PathLike,
    *,
    masks: str | os.PathLike = "",
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    link: bool = False,
    jobs: int = 0,
    progress: bool = True,
) -> Outcome:
    """Write the dataset; a video that cannot be used is named and left out.

    Args:
        videos: folder of videos, or of the folders ``train``, ``val`` and ``test`` with videos.
        out: folder of the dataset, as ``DATASETS.ROOT``; files there of the same names are replaced.
        masks: folder with one folder of masks per video, of its name; a mask's name ends with its second, from 0.
            Empty: there are none yet.
        shares: of train, val and test, if ``videos`` has no such folders; drawn with ``seed``.
        link: write symbolic links in place of copies of the videos.
        jobs: threads; 0 for one per core, at most 8.
        progress: show a bar.

    Raises:
        DatasetError: there are no videos, two have the same name, or masks belong to no video.
    """
    clips = _find_clips(Path(videos), Path(masks) if masks else None, shares, seed)
    outcome = Outcome()
    make = partial(_make_clip, out=Path(out), link=link)
    for clip, result in zip(
        clips, in_threads(make, clips, jobs=jobs, title="Videos", progress=progress), strict=True
    ):
        if isinstance(result, str):
            outcome.failed.append(result)
            continue
        outcome.clips[clip.split] += 1
        outcome.seconds += result
        outcome.masks += len(clip.masks)
    _write_config(Path(out))
    return outcome


def _write_config(out: Path) -> None:
    base = find_config("own/r50").resolve()
    with atomic_write(out / CONFIG, "w") as file:
        file.write(
            "# Written by datasets/from_videos.py: ResNet-50 on this dataset. Only seconds that have a mask are\n"
            "# ground truth; configs/_base_/datasets/own.yaml explains all keys.\n"
            f"_BASE_: {json.dumps(str(base))}\n"
            "DATASETS:\n"
            f"  ROOT: {json.dumps(str(out))}\n"
            "  OWN:\n"
            "    IMAGES: frames/{split}/{clip}/{second}.png\n"
            "    ANNOTATED: existing\n"
        )


def _find_clips(folder: Path, masks: Path | None, shares: Sequence[float], seed: int) -> list[_Clip]:
    if not folder.is_dir():
        raise DatasetError(f"There is no folder of videos '{folder}'.")
    divided = {split: _videos(folder / split) for split in SPLITS if (folder / split).is_dir()}
    files = [file for found in divided.values() for file in found] or _videos(folder)
    if not files:
        raise DatasetError(
            f"Folder {folder} holds no videos; their names end with {', '.join(VIDEO_ENDINGS)}, and they lie in "
            f"it, or in folders {', '.join(SPLITS)}."
        )
    names: dict[str, Path] = {}
    for file in files:
        check_name(file.stem, what="clip", where=f"Folder {file.parent}")
        if file.stem in names:
            raise DatasetError(
                f"{names[file.stem]} and {file} would be clips of the same name; rename one of them."
            )
        names[file.stem] = file
    split_of = {file.stem: split for split, found in divided.items() for file in found} or _draw(
        sorted(names), shares, seed
    )
    found = _find_masks(masks, names) if masks is not None else {}
    return [_Clip(names[name], split_of[name], found.get(name, {})) for name in sorted(names)]


def _videos(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in VIDEO_ENDINGS and not path.name.startswith(".")
    )


def _draw(names: list[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Split of each name; every split with a share gets at least one clip where there are enough."""
    if len(shares) != len(SPLITS) or min(shares) < 0 or not sum(shares) > 0:
        raise DatasetError(f"Shares of {', '.join(SPLITS)} are {list(shares)}; give three numbers of 0 or more.")
    order = random.Random(seed).sample(names, len(names))
    result, start = {}, 0
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    for split, share in reversed(list(zip(SPLITS, shares, strict=True))):
        left = len(names) - start
        count = round(len(names) * share / sum(shares))
        if share > 0:
            # The earlier splits, training first of all, must not become empty.
            count = min(max(count, 1), max(0, left - wanted.index(split)))
        if split == wanted[0]:
            count = left
        result |= dict.fromkeys(order[start : start + count], split)
        start += count
    return result


def _find_masks(folder: Path, names: Mapping[str, Path]) -> dict[str, dict[int, Path]]:
    if not folder.is_dir():
        raise DatasetError(f"There is no folder of masks '{folder}'.")
    found: dict[str, dict[int, Path]] = {}
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inside.name not in names:
            raise DatasetError(f"{inside} holds the masks of no video; folders of masks have the names of videos.")
        for path in sorted(inside.glob("*.png")):
            number = _NUMBER.search(path.stem)
            if number is None:
                raise DatasetError(f"Mask {path} does not name its second; let its name end with it, as in 3.png.")
            found.setdefault(inside.name, {})[int(number[1])] = path
    if not found:
        raise DatasetError(f"Folder {folder} holds no masks; they are at {folder}/<video>/<second>.png.")
    return found


def _make_clip(clip: _Clip, *, out: Path, link: bool) -> int | str:
    """Write one clip; the number of its frames, or why it cannot be used."""
    inside = f"{clip.split}/{clip.video.stem}"
    try:
        video_audio_seconds(clip.video)
        count = count_seconds(clip.video)
        late = [second for second in clip.masks if second >= count]
        if late:
            return f"Mask {clip.masks[late[0]]} is of second {late[0]}, but {clip.video} has only {count}."
        for second in range(count):
            frame = read_image(frame_of_video(os.fspath(clip.video), second))
            write_png(out / "frames" / inside / f"{second}.png", frame)
            if second in clip.masks:
                mask = read_binary_mask(clip.masks[second])
                if not same_proportions(mask.shape, frame.shape[:2]):
                    return (
                        f"Mask {clip.masks[second]} is {mask.shape[0]} x {mask.shape[1]}, its frame of "
                        f"{clip.video} {frame.shape[0]} x {frame.shape[1]}; the proportions must agree."
                    )
                write_png(out / "masks" / inside / f"{second}.png", 255 * mask)
    except (AudioError, ImageError, VideoError) as error:
        return str(error)
    _place(clip.video, out / "videos" / f"{inside}.mp4", link=link)
    return count


def _place(source: Path, target: Path, *, link: bool) -> None:
    with atomic_path(target) as temporary:
        if link:
            Path(temporary).symlink_to(source.resolve())
        else:
            shutil.copyfile(source, temporary)
