"""Writes a release of composites in MS3's layout, with the machinery of the drawn clips."""

import os
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from ska_vct.data.audio.log_mel import SAMPLE_RATE
from ska_vct.data.facts import SPLITS, expand
from ska_vct.data.registry import get_facts
from ska_vct.synth.composites.library import Library, open_library
from ska_vct.synth.composites.prepare import read_sources
from ska_vct.synth.composites.render import CompositeRenderer
from ska_vct.synth.composites.scene import draw_composite, mixed
from ska_vct.synth.composites.settings import COMPOSITE_KINDS, CompositeSettings
from ska_vct.synth.plan import GOLDEN, ClipPlan, by_share
from ska_vct.synth.release import table_row, write_seen, write_sound_and_video
from ska_vct.synth.truth import truth_path
from ska_vct.synth.writer import generate

_CRF = (20, 32)


@dataclass(frozen=True, kw_only=True)
class CompositePlan(ClipPlan):
    """One composite before it is drawn; its classes are the names of its sources."""

    @property
    def sounding_classes(self) -> list[str]:
        """Names of the recordings that are heard, sorted."""
        return sorted({sound.object_class.avss for sound in self.scene.sources})


def generate_composites(
    root: str | os.PathLike, settings: CompositeSettings, *, jobs: int = 0, progress: bool = True
) -> bool:
    """Write clips below ``root``, whose sources :func:`prepare_sources` has gathered.

    Args and returns: as :func:`ska_vct.synth.writer.generate`.

    Raises:
        InputError: there are no sources.
        SynthError: the folder holds other clips.
    """
    read_sources(os.path.normpath(os.path.join(root, settings.sources)))
    return generate(root, settings, jobs=jobs, progress=progress, make=make_composite)


def plan_composite(root: Path, settings: CompositeSettings, split: str, index: int) -> CompositePlan:
    """Plan clip ``index`` of ``split``, independently of the number of clips and of the process."""
    key = [settings.seed, 17, SPLITS.index(split)]
    start = np.random.default_rng([*key, 0]).random()
    kind = by_share(settings.scenes, COMPOSITE_KINDS, (start + index * GOLDEN) % 1)
    scene = draw_composite(
        np.random.default_rng([*key, 1 + index]), kind, _library(root, settings, split), settings
    )
    name = f"{kind}_{split}_{index:05d}"
    clip_id = expand(get_facts(settings.subset).clip_id, {"split": split, "name": name})
    return CompositePlan(
        subset=settings.subset, split=split, clip_id=clip_id, name=name, vid=name, category=None, label=None,
        scene=scene,
    )  # fmt: skip


def make_composite(root: Path, settings: CompositeSettings, number: tuple[str, int]) -> tuple[dict, dict]:
    """Make one clip unless it exists; returns its rows in our table and in the release's."""
    plan = plan_composite(root, settings, *number)
    if not truth_path(root, plan.subset, plan.split, plan.name).is_file():
        renderer = CompositeRenderer(plan.scene, _library(root, settings, plan.split), fps=settings.fps)
        frames = renderer.frames()
        crf = int(np.random.default_rng(plan.scene.style_seed).integers(*_CRF))
        video = write_sound_and_video(
            root, plan, frames, mixed(plan.scene), rate=SAMPLE_RATE, fps=settings.fps, crf=crf
        )
        # Images and flow are what a user would take from the compressed video.
        seen = _decode(video)
        truth = renderer.truth(steps=settings.series)
        write_seen(root, plan, seen, truth, settings, sampled=renderer.sampled(), source="compressed video")
    return plan.row(), table_row(plan)


def _library(root: Path, settings: CompositeSettings, split: str) -> Library:
    return open_library(os.path.normpath(os.path.join(root, settings.sources)), split)


def _decode(path: Path) -> np.ndarray:
    """All images of a video of ours, uint8 (N, H, W, 3), RGB."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
