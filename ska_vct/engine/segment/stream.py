"""Runs a model over a stream, a few clips at a time."""

import difflib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.clip_mapper import ClipMapper, prepare_flow
from ska_vct.data.flow.extract.clip import FlowRequest
from ska_vct.data.flow.methods.registry import build_flow_method
from ska_vct.data.registry import get_facts
from ska_vct.data.stream.clips import StreamClip, StreamPlan, stream_clips
from ska_vct.data.stream.sources import Source
from ska_vct.structures.clip import UNKNOWN_CATEGORY
from ska_vct.utils.errors import InputError
from ska_vct.utils.threads import read_ahead

from .masks import frame_labels
from .result import Segmentation, class_probabilities

# Frames of a clip where a dataset's clips have different lengths.
_LENGTH = 5
_MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How videos are segmented.

    Attributes:
        fps: frames per second to segment.
        threshold: each pixel gets the best class but background where its score exceeds this, 0 to 1; None for
            ``TEST.THRESHOLD``, which is the class with the highest score, as in the papers, unless the model has
            another. Models are under-confident outside their training domain. Of two classes, 0.5 is the same as
            the highest score.
        classes: names of the classes to segment; what belongs to others is background. Empty: all.
        size: side, or height and width, of the network's input; None for ``INPUT.SIZE``.
        batch: clips per call of the model.
        clip_frames: frames of a clip; None for the dataset's.
        flow: method of optical flow: dis, farneback, raft_large, raft_small; None for ``INPUT.FLOW.METHOD``.
        flow_weights: RAFT's weights as a file; empty for torchvision's own, which it downloads once.
        amp: run the model in bfloat16 where it may.
        no_audio: take silence where a video has no audio track.
    """

    fps: float = 1.0
    threshold: float | None = None
    classes: tuple[str, ...] = ()
    size: int | tuple[int, int] | None = None
    batch: int = 1
    clip_frames: int | None = None
    flow: str | None = None
    flow_weights: str = ""
    amp: bool = False
    no_audio: bool = False

    def __post_init__(self):
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"The threshold is {self.threshold}; scores lie between 0 and 1.")
        if self.batch < 1:
            raise InputError(f"The batch is {self.batch}; it must be at least 1 clip.")
        sides = (self.size,) if isinstance(self.size, int) else self.size or ()
        if any(not 32 <= side <= _MAX_SIDE for side in sides):
            raise InputError(f"The size is {self.size}; the network's input may be 32 to {_MAX_SIDE} pixels.")

    def with_threshold(self, cfg: CfgNode) -> "SegmentOptions":
        """These options, with the model's own threshold where none is given."""
        return self if self.threshold is not None else replace(self, threshold=cfg.TEST.THRESHOLD or None)

    def input_size(self, cfg: CfgNode) -> tuple[int, int]:
        """Height and width of the network's input."""
        if self.size is None:
            return tuple(cfg.INPUT.SIZE)
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)


def segment_stream(
    cfg: CfgNode, model: nn.Module, source: Source, options: SegmentOptions, *, first: int = 0
) -> Iterator[Segmentation]:
    """Segment a source clip by clip, in memory that does not depend on its length.

    Args:
        cfg: the configuration of ``model``.
        model: in inference mode, with ``return_extras``.
        source: video or arrays.
        options: see there.
        first: clip to begin with; those before it are decoded but not segmented.

    Yields:
        the result of one clip after the other.

    Raises:
        InputError: the model reads what a video does not have.
        VideoError, AudioError, FlowError: the file cannot be used; one sentence that names it.
    """
    if cfg.MODEL.PRE_MASK.ENABLED:
        raise InputError(
            "The model reads images of segments (MODEL.PRE_MASK.ENABLED), which videos do not have; use a model "
            "without them, or datasets/make_premasks.py and a dataset of your own."
        )
    plan = make_plan(cfg, options, first=first)
    options = options.with_threshold(cfg)
    segmenter = ClipSegmenter(cfg, model, options, plan.geometry)
    clips = read_ahead(stream_clips(source, plan))
    with closing(clips):  # type: ignore[type-var]
        for group in _groups(clips, options.batch):
            yield from segmenter(group, source)


class ClipSegmenter:
    """Runs the model on clips of a stream."""

    def __init__(self, cfg: CfgNode, model: nn.Module, options: SegmentOptions, geometry: ClipGeometry):
        """
        Args:
            cfg, model, options: see :func:`segment_stream`.
            geometry: from a video's image to the network's.
        """
        self._cfg, self._model, self._options, self._geometry = cfg, model, options, geometry
        self._reader = ClipMapper(cfg, is_train=False)
        self._chosen = chosen_classes(cfg, options.classes)
        self._names = tuple(get_facts(cfg.DATASETS.SUBSET).classes)

    def __call__(self, clips: Sequence[StreamClip], source: Source) -> Iterator[Segmentation]:
        """Results of clips that the model sees together."""
        start = time.perf_counter()
        inputs, outputs = self.run(clips, source.name)
        share = (time.perf_counter() - start) / len(clips)
        for part in self.results(clips, inputs, outputs, source):
            yield replace(part, spent=part.spent | {"model": share})

    def run(self, clips: Sequence[StreamClip], name: str) -> tuple[list[dict], list[dict[str, torch.Tensor]]]:
        """The model's inputs and outputs."""
        subset = self._cfg.DATASETS.SUBSET
        inputs = [_model_input(clip, self._reader, self._geometry, subset, name) for clip in clips]
        kind = torch.device(self._cfg.MODEL.DEVICE).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self._options.amp):
            return inputs, self._model(inputs)

    def results(
        self, clips: Sequence[StreamClip], inputs: Sequence[dict], outputs: Sequence[dict], source: Source
    ) -> Iterator[Segmentation]:
        """Masks and scores from what :meth:`run` returned."""
        for clip, given, output in zip(clips, inputs, outputs, strict=True):
            yield _result(clip, given, output, self._options, self._names, self._chosen, source)


def make_plan(cfg: CfgNode, options: SegmentOptions, *, first: int = 0) -> StreamPlan:
    """How a stream is cut for a model.

    Raises:
        InputError, FlowError: an option has a wrong value, or the weights of the flow method are not to be had.
    """
    flow = None
    if cfg.MODEL.SKA.ENABLED:
        name = options.flow or cfg.INPUT.FLOW.METHOD
        method = build_flow_method(name, weights=options.flow_weights, device=cfg.MODEL.DEVICE)
        flow = FlowRequest(method=name, source="video", series=cfg.INPUT.FLOW.SERIES), method
    length = options.clip_frames or get_facts(cfg.DATASETS.SUBSET).num_frames or _LENGTH
    geometry = ClipGeometry.resize(options.input_size(cfg))
    return StreamPlan(fps=options.fps, length=length, geometry=geometry, flow=flow, first=first)


def chosen_classes(cfg: CfgNode, names: Sequence[str]) -> np.ndarray | None:
    """uint8 (K,), from a class to itself or, where it is not wanted, to background; None for all."""
    known = get_facts(cfg.DATASETS.SUBSET).classes
    unknown = [name for name in names if name not in known[1:]]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known[1:], n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"they are {', '.join(known[1:])}."
        raise InputError(f"The model has no class '{unknown[0]}'; {hint}")
    if not names:
        return None
    return np.array([index if name in names else 0 for index, name in enumerate(known)], np.uint8)


def _groups(clips: Iterable[StreamClip], count: int) -> Iterator[Sequence[StreamClip]]:
    clips = iter(clips)
    while group := list(islice(clips, count)):
        yield group


def _model_input(
    clip: StreamClip, reader: ClipMapper, geometry: ClipGeometry, subset: str, name: str
) -> dict[str, Any]:
    """As the test mapper makes it; class scores are wanted at the network's size."""
    count = len(clip.images)
    result = {
        "images": torch.from_numpy(np.ascontiguousarray(clip.images.transpose(0, 3, 1, 2))),
        "log_mel": torch.from_numpy(clip.audio.log_mel),
        "audio_second": torch.from_numpy(clip.audio.seconds),
        "frame_valid": torch.ones(count, dtype=torch.bool),
        "mask_valid": torch.zeros(count, dtype=torch.bool),
        "category": UNKNOWN_CATEGORY,
        "clip_id": name,
        "subset": subset,
        "height": geometry.size[0],
        "width": geometry.size[1],
        "frame_index": torch.arange(clip.first, clip.first + count),
    }
    if clip.flow is not None and reader.flow is not None:
        flow = prepare_flow(clip.flow, reader.flow, rows=np.arange(count), geometry=geometry)
        result["flow"] = torch.from_numpy(flow)
    return result


def _result(
    clip: StreamClip,
    given: dict[str, Any],
    output: dict[str, torch.Tensor],
    options: SegmentOptions,
    class_names: Sequence[str],
    chosen: np.ndarray | None,
    source: Source,
) -> Segmentation:
    start = time.perf_counter()
    sem_seg = output["sem_seg"].float()
    if chosen is not None and options.threshold is not None:
        sem_seg = sem_seg.clone()
        sem_seg[:, np.flatnonzero(chosen == 0)[1:]] = 0
    labels = np.stack([frame_labels(frame, clip.size, options.threshold) for frame in sem_seg])
    labels = labels if chosen is None else chosen[labels]
    scores = class_probabilities(sem_seg)
    count = len(class_names)
    areas = np.stack([np.bincount(frame.ravel(), minlength=count) for frame in labels]) / labels[0].size
    extras = {
        name: output[name].float().cpu().numpy() if name in output else None for name in ("motion_map", "boundary")
    }
    return Segmentation(
        name=source.name,
        fps=options.fps,
        first=clip.first,
        times=clip.times,
        class_names=tuple(class_names),
        previews=clip.previews,
        labels=labels,
        scores=scores[:, 1:].amax(1).half().cpu().numpy(),
        class_scores=scores.amax((2, 3)).cpu().numpy(),
        class_areas=areas.astype(np.float32),
        audio_level=clip.level,
        motion_map=extras["motion_map"],
        boundary=extras["boundary"],
        clip=given,
        spent={stage: clip.spent[stage] for stage in ("decode", "audio", "flow")}
        | {"model": 0.0, "masks": time.perf_counter() - start},
        remarks=tuple(source.remarks),
    )
