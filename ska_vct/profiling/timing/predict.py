"""Segmenting a video file to masks and an overlay, stage by stage, in processor time."""

import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model

from ska_vct.data.stream.clips import stream_clips
from ska_vct.data.stream.sources import VideoSource
from ska_vct.engine.segment.outputs import OutputOptions, store_part, write_outputs
from ska_vct.engine.segment.parts import PartStore
from ska_vct.engine.segment.stream import ClipSegmenter, SegmentOptions, make_plan
from ska_vct.visualization.mp4 import write_mp4

from .clips import smooth_images
from .subject import Subject, case_cfg
from .turns import Measurement
from .work import BenchmarkError, Case, Clock, Work

_RATE = 44_100
_STAGES = ("decode", "audio", "flow", "model", "masks", "drawing")
_COMPARED = ("decode", "flow", "drawing")


class PredictSubject(Subject):
    name = "predict"

    def options(
        self, *, device: str, sizes: Sequence[str] = ("1280x720",), fps: int = 25, seconds: int = 5
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            sizes: width x height of the videos.
            fps: their images per second.
            seconds: their length.
        """
        result = []
        for size in sizes:
            width, _, height = size.partition("x")
            if not (width.isdecimal() and height.isdecimal()) or min(int(width), int(height)) < 32:
                raise BenchmarkError(f"Video size '{size}' is not of the form 1280x720, at least 32 pixels.")
            chosen = {"size": (int(height), int(width)), "fps": fps, "seconds": seconds}
            result.append((size, chosen))
        return result

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        # Videos have no images of segments.
        cfg.MODEL.PRE_MASK.ENABLED = False
        model = build_model(cfg).eval()
        model.return_extras = True
        folder = tempfile.TemporaryDirectory()
        seconds = case.options["seconds"]
        path = Path(folder.name) / "video.mp4"
        _write_video(path, case.options["size"], case.options["fps"], seconds)
        options = SegmentOptions()
        plan = make_plan(cfg, options)
        segmenter = ClipSegmenter(cfg, model, options, plan.geometry)
        names = (
            ("background", "object")
            if cfg.MODEL.NUM_CLASSES == 2
            else tuple(map(str, range(cfg.MODEL.NUM_CLASSES)))
        )
        now = _now(case.device)
        results = Path(folder.name) / "results" / "video"

        def run(clock: Clock, folder: object = folder) -> None:  # the folder lives as long as this
            source = VideoSource(path)
            clips = list(stream_clips(source, plan))
            for stage in ("decode", "audio", "flow"):
                clock.add(stage, sum(clip.spent[stage] for clip in clips))
            output = OutputOptions(save=("overlay",))
            store = PartStore(results, {})
            store.clear()
            for clip in clips:
                start = now()
                inputs, outputs = segmenter.run([clip], source.name)
                done = now()
                for part in segmenter.results([clip], inputs, outputs, source):
                    store_part(store, part, results, output)
                clock.add("model", done - start)
                clock.add("masks", now() - done)
            start = now()
            write_outputs(
                store, source, results, output, name="video", fps=1.0,
                class_names=names, length=plan.length, threshold=None, progress=lambda _: None,
            )  # fmt: skip
            clock.add("drawing", now() - start)

        return Work(run=run, frames=seconds, facts={"seconds": seconds})

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        lines = ["Seconds are of processor time on all cores." if measurements[0].case.device == "cpu" else ""]
        for found in measurements:
            length = found.facts["seconds"]
            stages = {stage: found.median(stage) / length for stage in _STAGES}
            around = sum(stages[stage] for stage in _COMPARED)
            slowest = max(stages, key=lambda stage: stages[stage])
            lines.append(
                f"{found.case.name}: {found.median() / length:.2f} s per second of video, bound by {slowest}; "
                f"decode, flow and drawing together {around:.2f} s, {around / stages['model']:.2f} of the model's "
                f"{stages['model']:.2f} s."
            )
        return [line for line in lines if line]


def _now(device: str) -> Callable[[], float]:
    if device == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def _write_video(path: Path, size: tuple[int, int], fps: int, seconds: int) -> None:
    """Smooth noise that moves, with a tone."""
    height, width = (2 * (side // 2) for side in size)
    (image,) = smooth_images(1, (height, width))
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(_RATE) / _RATE).astype(np.float32)[None]
    images = (np.roll(image, (2 * number, number), (1, 0)) for number in range(seconds * fps))
    write_mp4(path, images, rate=Fraction(fps), audio=[tone] * seconds, sample_rate=_RATE)
