"""Predictions for clips in memory, for clips of a dataset, or read from disk.

Shape legend: T frames of a clip, one per second, H x W their size, S flow fields per second, K classes.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from ska_vct.checkpoint.fetch.packages import DEFAULT_WEIGHTS
from ska_vct.data.audio.files import ClipAudio, samples_to_audio
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.clip_mapper import ClipMapper, prepare_flow
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.flow.methods.base import frame_pairs, pair_flow
from ska_vct.data.flow.methods.registry import CLASSICAL
from ska_vct.data.flow.online import build_mapper
from ska_vct.data.flow.store import FlowRecord
from ska_vct.data.registry import get_facts
from ska_vct.data.stream.sources import open_source
from ska_vct.modeling.inspection import inspect
from ska_vct.modeling.meta_arch import SKAVCT
from ska_vct.structures.clip import UNKNOWN_CATEGORY
from ska_vct.utils.errors import InputError

from .pretrained import find_cfg
from .segment.masks import frame_labels
from .segment.result import Segmentation, join
from .segment.stream import SegmentOptions, segment_stream
from .weights import build_trained_model

# Side of the flow fields that are computed from frames, as datasets/compute_flow.py stores them.
_FLOW_SIDE = 48


@dataclass(frozen=True, kw_only=True)
class ClipArrays:
    """A clip in memory.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB, one per second, each from near the end of its second as in AVSBench.
        audio: samples, (N,) or (N, channels), floats in [-1, 1] or signed integers, and their rate in Hz; they
            begin with the clip and are padded with silence. Either this or ``log_mel``.
        log_mel: float32 (T, 1, 96, 64), see :mod:`ska_vct.data.audio.log_mel`.
        flow: float (T, S, 2, h, w), u right, v down, in pixels of the frames per second, at any resolution h x w.
            None: a model that reads flow gets that between the frames (``INPUT.FLOW.METHOD``), or zero for a
            single frame. Frames lie a second apart, so flow computed from a video shows far more.
        pre_masks: uint8 (T, h, w, 3), RGB images of class-agnostic segments, for a model that reads them.
        name: for messages.
    """

    frames: np.ndarray
    audio: tuple[np.ndarray, int] | None = None
    log_mel: np.ndarray | None = None
    flow: np.ndarray | None = None
    pre_masks: np.ndarray | None = None
    name: str = "clip"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model predicts for a clip.

    Attributes:
        sem_seg: float32 (T, K, H, W), class scores at the frames' size, not normalised; softmax over K gives the
            probabilities that are evaluated.
        labels: int64 (T, H, W), the class of each pixel, 0 for background: of the highest score, or by
            ``TEST.THRESHOLD``.
        motion_map: float32 (T, g, g) in [0, 1], where motion agrees with the audio; None without SKA.
        boundary: float32 (T, h, w) in [0, 1], probability of a contour; None without BRM.
    """

    sem_seg: np.ndarray
    labels: np.ndarray
    motion_map: np.ndarray | None
    boundary: np.ndarray | None


class Predictor:
    """A trained model with its preprocessing.

    Attributes:
        cfg: the configuration.
        model: the model, in inference mode.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        """
        Args:
            cfg: the configuration that ``model`` was built from.
            model: with its weights; it returns its maps from now on.
        """
        self.cfg = cfg
        self.model = model.eval()
        self.model.return_extras = True  # type: ignore[assignment]
        self._mapper = ClipMapper(cfg, is_train=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return tuple(get_facts(self.cfg.DATASETS.SUBSET).classes)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike = DEFAULT_WEIGHTS,
        config: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        overrides: Sequence[str] = (),
    ) -> "Predictor":
        """A predictor of trained weights, by default those that come with the package.

        Args, Raises: see :func:`ska_vct.engine.pretrained.load_model`.
        """
        cfg = find_cfg(weights, config, overrides, device=device)
        return cls(cfg, build_trained_model(cfg))

    def __call__(
        self,
        frames: np.ndarray,
        audio: tuple[np.ndarray, int] | None = None,
        *,
        log_mel: np.ndarray | None = None,
        flow: np.ndarray | None = None,
        pre_masks: np.ndarray | None = None,
    ) -> Prediction:
        """Predict one clip; arguments, see :class:`ClipArrays`; errors, see :meth:`predict`."""
        return self.predict(
            [ClipArrays(frames=frames, audio=audio, log_mel=log_mel, flow=flow, pre_masks=pre_masks)]
        )[0]

    @torch.no_grad()
    def predict(self, clips: Sequence[ClipArrays]) -> list[Prediction]:
        """Predict a batch of clips, whose lengths and sizes may differ.

        Args:
            clips: the clips.

        Returns:
            one prediction per clip.

        Raises:
            InputError: an array is missing or has the wrong type or shape.
            AudioError, FlowError: audio is empty or not finite; frames are too small to compute flow.
        """
        outputs = self.model([self.prepare(clip) for clip in clips])
        return [_to_prediction(output, self.cfg.TEST.THRESHOLD or None) for output in outputs]

    def predict_records(self, records: Sequence[dict]) -> Iterator["ClipPrediction"]:
        """Predict clips of a dataset one by one, see :func:`predict` and :func:`find_records`."""
        return predict(self.cfg, self.model, records)

    def segment(self, video: str | os.PathLike | None = None, **options: Any) -> Segmentation:
        """Segment a video file, or frames in memory, whole; arguments and errors, see :meth:`stream`.

        Masks of a whole video are kept in memory: a byte per pixel and frame.
        """
        return join(list(self.stream(video, **options)))

    def stream(
        self,
        video: str | os.PathLike | None = None,
        *,
        frames: np.ndarray | None = None,
        frame_rate: float | None = None,
        waveform: np.ndarray | None = None,
        rate: int | None = None,
        fps: float = 1.0,
        name: str = "clip",
        **options: Any,
    ) -> Iterator[Segmentation]:
        """Segment a video clip by clip, in memory that does not depend on its length.

        Args:
            video: a file with an audio track; or else
            frames: uint8 (N, H, W, 3), RGB, upright.
            frame_rate: frames per second that they were taken at; None: they are the ones to segment, ``fps`` per
                second, each from near the end of its share as in AVSBench. Flow between frames that lie a second
                apart shows little, so give those of a video where there is one.
            waveform: samples from the first frame on, (N,) or (N, channels), floats in [-1, 1] or signed integers.
            rate: their rate in Hz.
            fps: frames per second to segment.
            name: of the arrays, for messages.
            options: of :class:`ska_vct.engine.segment.stream.SegmentOptions`: ``threshold``, ``no_audio``,
                ``size``, ``batch``, ``flow``, ...

        Yields:
            results of the video's clips, a few seconds each.

        Raises:
            InputError: an argument is wrong, or the model reads what a video does not have.
            MissingFileError, VideoError, AudioError, FlowError: the file cannot be used; one sentence names it.
        """
        chosen = SegmentOptions(fps=fps, **options)
        source = open_source(
            video, frames=frames, frame_rate=frame_rate, waveform=waveform, rate=rate, fps=fps, name=name,
            no_audio=chosen.no_audio,
        )  # fmt: skip
        return segment_stream(self.cfg, self.model, source, chosen)

    def prepare(self, clip: ClipArrays) -> dict:
        """The model's input of a clip, see :mod:`ska_vct.structures.clip`.

        Raises:
            InputError, AudioError, FlowError: see :meth:`predict`.
        """
        frames = _checked(clip.name, "frames", clip.frames, np.uint8, (None, None, None, 3))
        count, height, width = frames.shape[:3]
        geometry = ClipGeometry.resize(self._mapper.size)
        audio = self._audio(clip, count)
        result = {
            "images": _channels_first(geometry.apply_images(list(frames))),
            "log_mel": torch.from_numpy(audio.log_mel),
            "audio_second": torch.from_numpy(audio.seconds),
            "frame_valid": torch.ones(count, dtype=torch.bool),
            "mask_valid": torch.zeros(count, dtype=torch.bool),
            "category": UNKNOWN_CATEGORY,
            "clip_id": clip.name,
            "subset": self.cfg.DATASETS.SUBSET,
            "height": height,
            "width": width,
            "frame_index": torch.arange(count),
        }
        if self._mapper.flow is not None:
            result["flow"] = torch.from_numpy(self._flow(clip, frames, geometry))
        if self._mapper.pre_masks:
            if clip.pre_masks is None:
                raise InputError(
                    f"Clip '{clip.name}': the model reads pre-masks (MODEL.PRE_MASK.ENABLED); give them."
                )
            images = _checked(clip.name, "pre_masks", clip.pre_masks, np.uint8, (count, None, None, 3))
            result["pre_masks"] = _channels_first(geometry.apply_images(list(images), square_nearest=True))
        return result

    def _audio(self, clip: ClipArrays, count: int) -> ClipAudio:
        if (clip.audio is None) == (clip.log_mel is None):
            raise InputError(f"Clip '{clip.name}': give either audio=(samples, sample_rate) or log_mel.")
        if clip.audio is not None:
            samples, rate = clip.audio
            return samples_to_audio(np.asarray(samples), rate, count)
        log_mel = _checked(clip.name, "log_mel", clip.log_mel, np.float32, (count, 1, 96, 64))
        if self.model.reads_audio_second:
            raise InputError(
                f"Clip '{clip.name}': the model reads whole seconds, which patches of 0.96 s do not hold; give "
                "audio=(samples, sample_rate)."
            )
        return ClipAudio(log_mel, np.full((count, 1, 100, 64), np.nan, np.float32))

    def _flow(self, clip: ClipArrays, frames: np.ndarray, geometry: ClipGeometry) -> np.ndarray:
        count, height, width = frames.shape[:3]
        if clip.flow is not None:
            flow = np.asarray(clip.flow)
            if flow.dtype.kind != "f":
                raise InputError(f"Clip '{clip.name}': flow is {flow.dtype}; floats are expected.")
            flow = _checked(clip.name, "flow", flow.astype(np.float32), np.float32, (count, None, 2, None, None))
            if not np.isfinite(flow).all():
                raise InputError(f"Clip '{clip.name}': flow holds values that are not finite; compute it again.")
        elif count == 1:
            flow = np.zeros((1, 1, 2, _FLOW_SIDE, _FLOW_SIDE), np.float32)
        else:
            method = CLASSICAL[self.cfg.INPUT.FLOW.METHOD]()
            flow = pair_flow(frame_pairs(frames, clip_id=clip.name), method, (_FLOW_SIDE, _FLOW_SIDE))
        stored = FlowRecord(flow=flow, meta={"height": height, "width": width})
        return prepare_flow(stored, self._mapper.flow, rows=np.arange(count), geometry=geometry)


class ClipPrediction(NamedTuple):
    """One clip and what was predicted for it.

    Attributes:
        record: from the dataset's catalogue.
        clip: the test mapper's output.
        output: of the model (``sem_seg`` and the extras), or ``labels`` int64 (T, H, W) from disk; on the CPU,
            with rows for the frames that exist.
    """

    record: dict
    clip: dict
    output: dict


def subset_of(dataset: str) -> DatasetFacts:
    """The subset that a registered dataset belongs to.

    Raises:
        InputError: there is no such dataset; the message lists the registered ones.
    """
    if dataset not in DatasetCatalog:
        known = ", ".join(sorted(name for name in DatasetCatalog.keys() if name.startswith("avsbench_")))
        raise InputError(f"There is no dataset '{dataset}'; choose one of {known}.")
    return get_facts(MetadataCatalog.get(dataset).subset)


def find_records(dataset: str, *, clip_ids: Sequence[str] = (), num: int | None = None) -> list[dict]:
    """Records of a registered dataset.

    Args:
        dataset: its name, e.g. ``avsbench_ms3_test``.
        clip_ids: clips wanted, by id or by the id's last part; all when empty.
        num: at most this many, spread evenly over the dataset.

    Raises:
        InputError: a name matches no clip or several, or the dataset is empty.
    """
    records = DatasetCatalog.get(dataset)
    if not records:
        raise InputError(f"Dataset '{dataset}' has no clips; check its csv file.")
    if clip_ids:
        records = [_find(records, name, dataset) for name in clip_ids]
    if num is None or num >= len(records):
        return records
    if num < 1:
        raise InputError(f"The number of clips must be at least 1, not {num}.")
    return [records[round(i)] for i in np.linspace(0, len(records) - 1, num)]


@torch.no_grad()
def predict(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], *, inner: bool = False
) -> Iterator[ClipPrediction]:
    """Run ``model`` on clips one by one; with ``TEST.RETURN_EXTRAS`` its maps come too.

    Args:
        cfg: the configuration.
        model: of ``cfg``, with its weights.
        records: of a dataset.
        inner: also return the maps of :func:`ska_vct.modeling.inspection.inspect`, if it is an ``SKAVCT``.
    """
    mapper = build_mapper(cfg, is_train=False)
    for record in records:
        clip = mapper(record)
        output = (inspect(model, [clip]) if inner and isinstance(model, SKAVCT) else model([clip]))[0]
        yield ClipPrediction(record, clip, {name: value.cpu() for name, value in output.items()})


def _find(records: Sequence[dict], name: str, dataset: str) -> dict:
    exact = [record for record in records if record["clip_id"] == name]
    found = exact or [record for record in records if record["clip_id"].rsplit("/", 1)[-1] == name]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(record["clip_id"] for record in found[:3])
        raise InputError(f"{len(found)} clips of '{dataset}' are called '{name}'; choose by id: {ids}.")
    ids = ", ".join(record["clip_id"] for record in records[:3])
    raise InputError(f"No clip of '{dataset}' is called '{name}'; it has {len(records)}, for example {ids}.")


def _checked(
    name: str, what: str, array: np.ndarray | None, dtype: type, shape: tuple[int | None, ...]
) -> np.ndarray:
    found = np.asarray(array)
    fits = found.ndim == len(shape) and all(
        side > 0 and wanted in (None, side) for side, wanted in zip(found.shape, shape, strict=True)
    )
    if found.dtype != dtype or not fits:
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        raise InputError(
            f"Clip '{name}': {what} is {found.dtype} {tuple(found.shape)}, expected {np.dtype(dtype)} ({sides})."
        )
    return found


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _to_prediction(output: dict[str, torch.Tensor], threshold: float | None) -> Prediction:
    arrays = {name: value.float().cpu().numpy() for name, value in output.items()}
    size = arrays["sem_seg"].shape[2:]
    return Prediction(
        sem_seg=arrays["sem_seg"],
        labels=np.stack(
            [frame_labels(frame, size, threshold) for frame in torch.from_numpy(arrays["sem_seg"])]
        ).astype(np.int64),
        motion_map=arrays.get("motion_map"),
        boundary=arrays.get("boundary"),
    )
