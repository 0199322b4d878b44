"""Maps a record of paths to a clip of tensors, for all datasets (docs/data.md, docs/recipe.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from ska_vct.data.audio.files import ClipAudio, load_audio
from ska_vct.data.audio.log_mel import apply_gain
from ska_vct.data.audio.negatives import NegativeAudio
from ska_vct.data.augmentation import ClipAugmentation, ClipGeometry
from ska_vct.data.flow.camera import CAMERAS, compensate_camera
from ska_vct.data.flow.store import (
    PIXELS_PER_SECOND,
    FlowError,
    FlowRecord,
    has_flow,
    middle_fields,
    normalize_flow,
    read_flow,
    regroup_series,
)
from ska_vct.data.images.cache import ImageCache
from ska_vct.data.images.io import ImageError, may_show_the_same, read_image, read_truth, same_proportions
from ska_vct.data.memory_cache import MemoryCache
from ska_vct.data.registry import get_facts
from ska_vct.structures.clip import IGNORE_LABEL, TRUE_CONDITION, UNKNOWN_CATEGORY, ClipError, validate_clip
from ska_vct.utils.errors import InputError
from ska_vct.utils.media.errors import AudioError


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How flow is prepared for the model: the keys of ``INPUT.FLOW``, see ``ska_vct/config.py``."""

    norm: str
    diagonal_share: float
    series: int
    grouping: str
    grid: tuple[int, int]
    first_frame: str
    missing: str
    camera: str

    def __post_init__(self):
        for value, choices, key in (
            (self.grouping, ("mean", "middle"), "GROUPING"),
            (self.first_frame, ("forward", "zero"), "FIRST_FRAME"),
            (self.missing, ("error", "zero"), "MISSING"),
            (self.camera, CAMERAS, "CAMERA"),
        ):
            if value not in choices:
                raise InputError(f"INPUT.FLOW.{key} is '{value}'; choose {' or '.join(choices)}.")


class ClipMapper:
    """Loads, augments and packs one clip; ``ska_vct/structures/clip.py`` describes its fields.

    Args:
        is_train: augment, and make masks of the network's input size; else frames are resized to ``size`` and
            masks to ``eval_size``.
        size: (H, W) of the network's input.
        eval_size: size at which predictions are evaluated in testing.
        augmentation: samples a clip's geometry and colour; required in training.
        only_annotated: in training, skip frames without ground truth.
        frames_per_clip: in training, maximum number of frames per clip, sampled at random; 0: all.
        audio_source: ``auto``, ``pickle``, ``npy`` or ``wav``.
        gain_db: in training, random gain of up to this many decibels in either direction.
        flow: None to skip flow.
        pre_masks: whether to load the images of class-agnostic segments.
        negatives: in training, sometimes replaces a clip's audio and empties its masks; None: never.
        cache: stores decoded images; None to decode them each time.
        memory_gb: most that may be kept in memory of what was read, GiB.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        size: tuple[int, int],
        eval_size: tuple[int, int],
        augmentation: ClipAugmentation | None,
        only_annotated: bool,
        frames_per_clip: int,
        audio_source: str,
        gain_db: float,
        flow: FlowOptions | None,
        pre_masks: bool,
        negatives: NegativeAudio | None = None,
        cache: ImageCache | None = None,
        memory_gb: float = 0.0,
    ):
        self.is_train = is_train
        self.size = tuple(size)
        self.eval_size = tuple(eval_size)
        self.augmentation = augmentation
        self.only_annotated = only_annotated
        self.frames_per_clip = frames_per_clip
        self.audio_source = audio_source
        self.gain_db = gain_db
        self.flow = flow
        self.pre_masks = pre_masks
        self.negatives = negatives
        self._decode_image = read_image if cache is None else cache.read
        self._memory = MemoryCache(memory_gb)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, donors: Sequence[Mapping] = ()) -> dict:
        """``donors``: records of the training set whose audio may replace that of clips with other classes."""
        size = tuple(cfg.INPUT.SIZE)
        if cfg.INPUT.FORMAT != "RGB":
            raise InputError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}', but clips contain RGB images; set it to RGB.")
        augmentation = ClipAugmentation(
            size=size,
            scales=cfg.INPUT.SCALES,
            max_long_side=cfg.INPUT.MAX_LONG_SIDE,
            flip_prob=cfg.INPUT.FLIP_PROB,
            random_crop=cfg.INPUT.RANDOM_CROP,
            color=cfg.INPUT.COLOR_AUG_SSD,
            pad_value=cfg.INPUT.PAD_VALUE,
            color_per_image=cfg.INPUT.COLOR_AUG_PER_IMAGE,
        )
        flow = FlowOptions(
            norm=cfg.INPUT.FLOW.NORM,
            diagonal_share=cfg.INPUT.FLOW.DIAGONAL_SHARE,
            series=cfg.INPUT.FLOW.SERIES,
            grouping=cfg.INPUT.FLOW.GROUPING,
            grid=tuple(cfg.INPUT.FLOW.SIZE),
            first_frame=cfg.INPUT.FLOW.FIRST_FRAME,
            missing=cfg.INPUT.FLOW.MISSING,
            camera=cfg.INPUT.FLOW.CAMERA,
        )
        cache = None
        if cfg.INPUT.CACHE.ROOT and is_train:
            short_side = cfg.INPUT.CACHE.SHORT_SIDE or min(size)
            cache = ImageCache(root=cfg.INPUT.CACHE.ROOT, short_side=short_side, max_gb=cfg.INPUT.CACHE.MAX_GB)
        return {
            "is_train": is_train,
            "size": size,
            "eval_size": tuple(cfg.INPUT.EVAL_SIZE),
            "augmentation": augmentation if is_train else None,
            "only_annotated": cfg.INPUT.ONLY_ANNOTATED,
            "frames_per_clip": cfg.INPUT.FRAMES_PER_CLIP,
            "audio_source": cfg.INPUT.AUDIO.SOURCE,
            "gain_db": cfg.INPUT.AUDIO.GAIN_DB,
            "flow": flow if cfg.MODEL.SKA.ENABLED else None,
            "pre_masks": cfg.MODEL.PRE_MASK.ENABLED,
            "negatives": _negatives(cfg, donors) if is_train else None,
            "cache": cache,
            "memory_gb": cfg.INPUT.CACHE.MEMORY_GB if is_train else 0.0,
        }

    def __call__(self, record: Mapping, *, rng: np.random.Generator | None = None) -> dict:
        """Load one clip.

        Args:
            record: a record from ``load_records``; not modified.
            rng: makes all random draws of training; None: one seeded from numpy's global generator.

        Raises:
            ClipError: a file is missing or unusable; the message names clip and file.
        """
        try:
            return self._load(record, rng)
        except (AudioError, FlowError, ImageError) as error:
            raise ClipError(f"Clip '{record['clip_id']}': {error}") from None

    def load_flow(self, record: Mapping) -> np.ndarray:
        """Load a clip's flow as prepared for testing, float32 (T, S, 2, h, w).

        Raises:
            FlowError: the file is missing or unusable.
        """
        rows = np.arange(len(record["image_paths"]))
        return self._flow(record, rows, None, ClipGeometry.resize(self.size))

    def _load(self, record: Mapping, rng: np.random.Generator | None) -> dict:
        if self.is_train and rng is None:
            rng = np.random.default_rng(np.random.randint(2**31))
        rows = self._rows(record, rng)
        frames = self._read_frames(record, rows)
        height, width = frames[0].shape[:2]
        if self.is_train:
            square = get_facts(record["subset"]).square_in_training
            geometry = label_geometry = self.augmentation.draw(height, width, rng=rng, square=square)
            color = self.augmentation.color_jitter(rng)
            jitter = {"color": color, "color_per_image": self.augmentation.color_per_image}
        else:
            geometry, label_geometry = ClipGeometry.resize(self.size), ClipGeometry.resize(self.eval_size)
            jitter = {}
        masks, mask_valid = self._masks(record, rows, (height, width), label_geometry)
        condition, audio = self._audio(record, rows, rng)
        if condition != TRUE_CONDITION:
            # No visible object makes this audio, so all pixels are background; padding stays ignored.
            masks[masks != IGNORE_LABEL] = 0
        category = record["category"]
        clip = {
            "images": _channels_first(geometry.apply_images(frames, **jitter)),
            "log_mel": torch.from_numpy(audio.log_mel),
            "audio_second": torch.from_numpy(audio.seconds),
            "frame_valid": torch.ones(len(rows), dtype=torch.bool),
            "mask_valid": torch.from_numpy(mask_valid),
            "masks": torch.from_numpy(masks),
            "category": _prototype(get_facts(record["subset"]).categories, category),
            "clip_id": record["clip_id"],
            "subset": record["subset"],
            "height": label_geometry.size[0],
            "width": label_geometry.size[1],
            "frame_index": torch.from_numpy(rows),
        }
        if condition != TRUE_CONDITION:
            clip |= {"condition": condition, "category": UNKNOWN_CATEGORY}
        if self.flow is not None:
            clip["flow"] = torch.from_numpy(self._flow(record, rows, (height, width), geometry))
        if self.pre_masks:
            clip["pre_masks"] = self._pre_masks(
                record, rows, (height, width), geometry, jitter if jitter.get("color_per_image") else {}
            )
        validate_clip(clip)
        return clip

    def _rows(self, record: Mapping, rng: np.random.Generator | None) -> np.ndarray:
        if not self.is_train:
            return np.arange(len(record["image_paths"]))
        wanted = [path is not None or not self.only_annotated for path in record["mask_paths"]]
        rows = np.flatnonzero(wanted)
        if 0 < self.frames_per_clip < len(rows):
            rows = np.sort(rng.choice(rows, self.frames_per_clip, replace=False))
        if not len(rows):
            raise ClipError(
                f"Clip '{record['clip_id']}' has no annotated frame; exclude it from the training split."
            )
        return rows

    def _read_image(self, path: str) -> np.ndarray:
        return self._memory.get(("image", path), lambda: self._decode_image(path))

    def _load_audio(self, record: Mapping, num_seconds: int, source: str) -> ClipAudio:
        key = ("audio", record["subset"], record["clip_id"], num_seconds)
        return self._memory.get(key, lambda: load_audio(record, num_seconds, source))

    def _read_frames(self, record: Mapping, rows: np.ndarray) -> list[np.ndarray]:
        frames = [self._read_image(record["image_paths"][row]) for row in rows]
        for row, frame in zip(rows, frames, strict=True):
            if frame.shape != frames[0].shape:
                raise ImageError(
                    f"Image {record['image_paths'][row]} is {_size(frame)}, but the clip's first image is "
                    f"{_size(frames[0])}; all frames of a clip must have the same size."
                )
        return frames

    def _masks(
        self, record: Mapping, rows: np.ndarray, frame_size: tuple[int, int], geometry: ClipGeometry
    ) -> tuple[np.ndarray, np.ndarray]:
        subset = get_facts(record["subset"])
        paths = [record["mask_paths"][row] for row in rows]
        valid = np.array([path is not None for path in paths])
        masks = np.full((len(rows), *geometry.size), IGNORE_LABEL, np.int64)
        for index in np.flatnonzero(valid):
            path = paths[index]
            read = partial(read_truth, path, binary=subset.binary_masks, num_classes=subset.num_classes)
            mask = self._memory.get(("mask", path), read)
            if not record["rebuilt"] and not same_proportions(mask.shape, frame_size):
                raise ImageError(
                    f"Mask {path} is {_size(mask)}, but its image is {frame_size[0]} x {frame_size[1]}; a mask "
                    "may be smaller or larger than its image, but must have the same aspect ratio."
                )
            masks[index] = geometry.apply_labels(mask[None])[0]
        return masks, valid

    def _audio(self, record: Mapping, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[str, ClipAudio]:
        num_seconds, source = len(record["image_paths"]), self.audio_source
        negative = None
        if self.negatives is not None:
            negative = self.negatives.draw(record, num_seconds, source, rng=rng, load=self._load_audio)
        condition, audio = negative or (TRUE_CONDITION, self._load_audio(record, num_seconds, source))
        audio = ClipAudio(*(part[rows] for part in audio))
        if self.is_train and self.gain_db > 0:
            decibels = rng.uniform(-self.gain_db, self.gain_db)
            audio = ClipAudio(*(apply_gain(part, decibels) for part in audio))
        return condition, audio

    def _flow(
        self, record: Mapping, rows: np.ndarray, frame_size: tuple[int, int] | None, geometry: ClipGeometry
    ) -> np.ndarray:
        options, path = self.flow, record["flow_path"]
        if options.missing == "zero" and not has_flow(path):
            return np.zeros((len(rows), options.series, 2, *options.grid), np.float32)
        read = partial(read_flow, path, clip_id=record["clip_id"], num_frames=len(record["image_paths"]))
        stored = self._memory.get(("flow", path), read)
        size = stored.meta["height"], stored.meta["width"]
        if frame_size and not may_show_the_same(size, frame_size):
            raise FlowError(
                f"Flow {path} was computed from images of {size[0]} x {size[1]} pixels, but the clip's frames are "
                f"{frame_size[0]} x {frame_size[1]}; the aspect ratios must agree: compute it again."
            )
        return prepare_flow(stored, options, rows=rows, geometry=geometry)

    def _pre_masks(
        self,
        record: Mapping,
        rows: np.ndarray,
        frame_size: tuple[int, int],
        geometry: ClipGeometry,
        jitter: Mapping,
    ) -> torch.Tensor:
        if record["pre_mask_paths"] is None:
            raise ImageError(
                "the segment images that MODEL.PRE_MASK.ENABLED needs were not listed; register the dataset "
                "with pre_masks=True."
            )
        images = [self._read_image(record["pre_mask_paths"][row]) for row in rows]
        for row, image in zip(rows, images, strict=True):
            if not may_show_the_same(image.shape[:2], frame_size):
                raise ImageError(
                    f"Pre-mask {record['pre_mask_paths'][row]} is {_size(image)}, but the clip's frames are "
                    f"{frame_size[0]} x {frame_size[1]}; the aspect ratios must agree: make it again."
                )
        return _channels_first(geometry.apply_images(images, square_nearest=True, **jitter))


def prepare_flow(
    stored: FlowRecord, options: FlowOptions, *, rows: np.ndarray, geometry: ClipGeometry
) -> np.ndarray:
    """Convert stored flow to the form that the model reads.

    Args:
        stored: flow of all T frames of a clip.
        options: the keys of ``INPUT.FLOW``.
        rows: int (t,), selected frames.
        geometry: geometric transform of the images.

    Returns:
        float32 (t, S, 2, gh, gw).

    Raises:
        FlowError: the options are incompatible with the stored flow.
    """
    # The maximum of a clip is taken over all its frames, even if only some are used.
    loaded = np.arange(len(stored.flow)) if options.norm == "clip" else rows
    flow = stored.flow[loaded]
    if options.first_frame == "zero":
        flow[loaded == 0] = 0
    units = stored.meta.get("units", PIXELS_PER_SECOND)
    group = regroup_series if options.grouping == "mean" else middle_fields
    # Normalize over the full image: in a crop without motion, a separate maximum would amplify noise to 1.
    whole = group(compensate_camera(flow, options.camera, units=units), options.series)
    height, width = stored.meta["height"], stored.meta["width"]
    resized = np.array([geometry.resized[1] / width, geometry.resized[0] / height], np.float32)
    whole = normalize_flow(
        whole * resized[:, None, None],
        norm=options.norm,
        image_size=geometry.size,
        diagonal_share=options.diagonal_share,
        units=units,
    )
    whole = whole[rows] if options.norm == "clip" else whole
    return geometry.apply_flow(whole, image_size=geometry.resized, grid=options.grid)


def _negatives(cfg: CfgNode, donors: Sequence[Mapping]) -> NegativeAudio:
    node = cfg.INPUT.AUDIO
    return NegativeAudio(probability=node.NEGATIVES, kinds=node.NEGATIVE_KINDS, donors=donors)


def _prototype(categories: Sequence[str], category: str | None) -> int:
    return categories.index(category) if category in categories else UNKNOWN_CATEGORY


def _channels_first(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
