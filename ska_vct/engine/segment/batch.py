"""Videos, folders of videos and folders of frames segmented to files, one after the other."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ska_vct.data.stream.sources import ArrayAudio, ArraySource, Source, VideoSource
from ska_vct.engine.clip_inputs import IMAGE_ENDINGS, read_folder
from ska_vct.engine.predictor import Predictor
from ska_vct.utils.errors import FileSystemError, InputError, SkaVctError
from ska_vct.utils.files import write_json
from ska_vct.utils.folders import make_folder

from .outputs import OutputOptions, store_part, write_outputs
from .page import INDEX, write_page
from .parts import PartStore, read_settings
from .report import VideoReport
from .stream import SegmentOptions, chosen_classes, make_plan, segment_stream

SUMMARY = "summary.json"
VIDEO_ENDINGS = tuple(
    ".3g2 .3gp .asf .avi .f4v .flv .gif .m1v .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogg .ogv .rm .rmvb "
    ".swf .ts .vob .webm .wmv".split()
)
# Of the files; a new version makes them again.
_VERSION = 1


def segment_paths(
    predictor: Predictor,
    paths: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    options: SegmentOptions | None = None,
    output: OutputOptions | None = None,
    *,
    progress: bool = True,
) -> list[VideoReport]:
    """Segment videos to files; one that cannot be used does not stop the others, and a stopped run goes on.

    Args:
        predictor: the model.
        paths: videos; folders of videos; folders of one clip's frames with its audio.
        out: folder for the results: a folder for each video, and ``index.html``.
        options: how they are segmented.
        output: what is written.
        progress: show a bar.

    Returns:
        what became of each video, in the order of the paths.

    Raises:
        InputError: an option is wrong, or there is nothing to segment.
        OSError: ``out`` cannot be written.
    """
    options = (options or SegmentOptions()).with_threshold(predictor.cfg)
    output = output or OutputOptions()
    out = make_folder(out)
    # Wrong options are said once, not for every video.
    make_plan(predictor.cfg, options)
    chosen_classes(predictor.cfg, options.classes)
    found = [file for path in paths for file in _videos(Path(path))]
    reports = []
    for number, (path, name) in enumerate(zip(found, result_names(found), strict=True), 1):
        title = f"{name}" if len(found) == 1 else f"[{number}/{len(found)}] {name}"
        report = VideoReport(name=name, source=os.fspath(path))
        try:
            report = _segment(predictor, path, out / name, options, output, title=title, progress=progress)
        except (SkaVctError, OSError) as error:
            report.error = " ".join(str(error).split())
        reports.append(report)
        write_page(out / INDEX, reports)
    return reports


def result_names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders of results: the files', without their endings where these tell nothing apart."""
    resolved = [path.resolve() for path in paths]
    stems = Counter(path.stem.casefold() for path in resolved)
    names: list[str] = []
    taken: Counter = Counter()
    for path in resolved:
        name = path.stem if stems[path.stem.casefold()] == 1 else path.name
        name = name.strip().strip(".") or "video"
        taken[name.casefold()] += 1
        names.append(name if taken[name.casefold()] == 1 else f"{name} {taken[name.casefold()]}")
    return names


def _videos(path: Path) -> list[Path]:
    """The videos that a path stands for; itself where it cannot be a folder of videos."""
    if not path.is_dir():
        return [path]
    try:
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise FileSystemError(
            f"Folder '{path}' cannot be read ({error.strerror}); change its permissions."
        ) from None
    videos = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS]
    if any(file.suffix.lower() in IMAGE_ENDINGS for file in files) and not videos:
        return [path]
    if not videos:
        raise InputError(
            f"Folder '{path}' holds neither videos ({' '.join(VIDEO_ENDINGS)}) nor the images of a clip."
        )
    return videos


def open_path(path: Path, *, no_audio: bool) -> Source:
    """A video, or a folder with one image per second and one audio file.

    Raises:
        SkaVctError, OSError: it cannot be used; one sentence that names it.
    """
    if not path.is_dir():
        return VideoSource(path, no_audio=no_audio)
    clip = read_folder(path)
    samples, rate = clip.audio  # type: ignore[misc]
    return ArraySource(images=clip.frames, fps=1.0, sampled=True, sound=ArrayAudio(samples, rate), name=clip.name)


def _segment(
    predictor: Predictor,
    path: Path,
    folder: Path,
    options: SegmentOptions,
    output: OutputOptions,
    *,
    title: str,
    progress: bool,
) -> VideoReport:
    settings = _settings(predictor, path, options, output)
    done = read_settings(folder / SUMMARY)
    if done and done.get("settings") == settings and _are_there(folder, done.get("report")):
        return VideoReport(**done["report"] | {"kept": True})
    source = open_path(path, no_audio=options.no_audio)
    options = replace(options, fps=1.0) if isinstance(source, ArraySource) else options
    make_folder(folder)
    (folder / SUMMARY).unlink(missing_ok=True)
    store = PartStore(folder, settings)
    if not store.count:
        _remove_masks(folder)
    plan = make_plan(predictor.cfg, options)
    total = plan.count(source.duration) if source.duration else None
    names: tuple[str, ...] = ()
    spent: Counter = Counter()
    with tqdm(total=total, desc=title, unit="frame", disable=not progress) as bar:
        first = store.count
        bar.update(first * plan.length if total is None else min(first * plan.length, total))
        for part in segment_stream(predictor.cfg, predictor.model, source, options, first=first):
            store_part(store, part, folder, output)
            spent.update(part.spent)
            names = part.class_names
            bar.update(len(part.times))
    names = names or predictor.class_names
    with tqdm(
        total=round(source.duration or 0, 1) or None, desc=f"{title}: drawing", unit="s", delay=1,
        disable=not progress,
        bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]" if source.duration else None,
    ) as bar:  # fmt: skip
        values = write_outputs(
            store, source, folder, output, name=source.name, fps=options.fps, class_names=names,
            length=plan.length, threshold=options.threshold, progress=lambda seconds: bar.update(seconds - bar.n),
        )  # fmt: skip
    report = VideoReport(
        name=folder.name,
        source=os.fspath(path),
        seconds=round(values["frames"] / options.fps, 3),
        remarks=list(dict.fromkeys(source.remarks)),
        spent={stage: round(seconds, 3) for stage, seconds in spent.items()},
        **values,
    )
    write_json(folder / SUMMARY, {"settings": settings, "report": asdict(report)})
    store.clear()
    return report


def _settings(predictor: Predictor, path: Path, options: SegmentOptions, output: OutputOptions) -> dict[str, Any]:
    """All that the files of a video depend on, as JSON gives it back."""
    weights = str(predictor.cfg.MODEL.WEIGHTS)
    plain = asdict(options) | {"batch": None} | asdict(output)
    return {
        "version": _VERSION,
        "source": _identity(path),
        "weights": [weights, *_identity(Path(weights))[1:]],
        "options": {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()},
    }


def _identity(path: Path) -> list:
    try:
        found = path.stat()
    except OSError:
        return [str(path), None, None]
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def _are_there(folder: Path, report: Any) -> bool:
    if not isinstance(report, dict) or set(report) != set(VideoReport.__dataclass_fields__):
        return False
    return all((folder / name).exists() for name in report["files"].values())


def _remove_masks(folder: Path) -> None:
    """Masks of an earlier run with other settings, which this one may not overwrite."""
    own = re.compile(re.escape(folder.name) + r"_\d+\.png")
    for file in folder.glob("*.png"):
        if own.fullmatch(file.name):
            file.unlink()
    for file in (folder / "labels_semantic").glob("*.png"):
        if file.stem.isdecimal():
            file.unlink()
