"""Writes one clip's files in AVSBench's layouts, its flow and its truth (docs/data.md).

The truth, ``synth_truth/{subset}/{split}/{name}.npz``, holds what a release lacks (K objects in drawing order):

==============  ===================  ============================================================
array           type, shape          meaning
==============  ===================  ============================================================
clip_id, kind   str                  the clip's id; its kind of scene
sample_times    float64 (T,)         times of the sampled frames, seconds
classes         str (K,)             AVSS class of each object
categories      str (K,)             S4 category of each object
roles           str (K,)             sounding, twin, mover or still
sounding        bool (T, K)          whether an object sounds in a second
sounds          str (any,)           AVSS classes of all sounds, in view or not
masks           bool (T, K, H, W)    visible part of each object in the sampled frames
layout          float32 (K, 4)       rest position x and y, area (pixels), rotation (radians)
speed           float32 (T, S, K)    mean speed of an object's pixels, pixels per second, without camera
loudness        float32 (T, S, K)    mean envelope of a sounding object, 0..1
flow            float16 (T, 2, H, W) true flow at the sampled frames, pixels per second; not of composites
==============  ===================  ============================================================
"""

import wave
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ska_vct.data.facts import DatasetFacts, expand
from ska_vct.data.flow.methods.base import flow_series
from ska_vct.data.flow.store import FlowRecord, flow_path, write_flow
from ska_vct.data.registry import get_facts
from ska_vct.synth.plan import ClipPlan
from ska_vct.synth.render import Renderer, Truth, draw_soundtrack
from ska_vct.synth.settings import SynthSettings
from ska_vct.synth.truth import truth_path
from ska_vct.synth.video import CRF, write_video
from ska_vct.utils.files import atomic_write
from ska_vct.utils.palette import voc_palette

_JPEG_QUALITY = 95


def table_row(plan: ClipPlan) -> dict[str, str]:
    """The clip's row in the release's table."""
    values = {
        "name": plan.name,
        "start": "0",
        "end": str(plan.scene.seconds),
        "category": plan.category,
        "split": plan.split,
        "label": plan.label,
        "vid": plan.vid,
        "classes": "_".join(plan.sounding_classes),
    }
    return {names[0]: values[key] for key, names in get_facts(plan.subset).columns.items()}


def write_clip(root: Path, plan: ClipPlan, settings: SynthSettings) -> None:
    """Draw a clip and write all its files below ``root``, as in a complete release."""
    renderer = Renderer(plan.scene, fps=settings.fps, flicker=settings.flicker)
    frames, truth = renderer.frames(), renderer.truth(steps=settings.series)
    audio = draw_soundtrack(plan.scene, rate=settings.audio_rate, channels=settings.channels, hiss=settings.hiss)
    write_sound_and_video(root, plan, frames, audio, rate=settings.audio_rate, fps=settings.fps)
    write_seen(root, plan, frames, truth, settings, sampled=renderer.sampled(), source="rendered frames")


def write_sound_and_video(
    root: Path, plan: ClipPlan, frames: np.ndarray, audio: np.ndarray, *, rate: int, fps: int, crf: int = CRF
) -> Path:
    """Write a clip's audio and its raw video.

    Args:
        root: of the release.
        plan: of the clip.
        frames: uint8 (N, H, W, 3), RGB.
        audio: int16 (samples, channels) at ``rate``.
        fps: images per second.
        crf: quality of the video's compression.

    Returns:
        the video's path.
    """
    facts, values = get_facts(plan.subset), _values(plan)
    base = root / facts.folder
    wav = base / expand(facts.wav, values)
    # AVSS is released without videos; ours is stored next to the audio, where the reader looks for one.
    video = base / expand(facts.video, values).replace("*", "video")
    for path in (wav, video):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(wav, audio, rate)
    write_video(video, frames, fps=fps, audio=audio, rate=rate, crf=crf)
    return video


def write_seen(
    root: Path, plan: ClipPlan, frames: np.ndarray, truth: Truth, settings, *, sampled: np.ndarray, source: str
) -> None:
    """Write a clip's images, masks, flow and, last, its truth.

    Args:
        frames: uint8 (N, H, W, 3), RGB, all images of the video.
        settings: ``fps``, ``series`` and ``flow_size`` are read.
        sampled: int64 (T,), images that are sampled.
        source: what the flow is computed from, for its record.
    """
    facts = get_facts(plan.subset)
    _write_images(root / facts.folder, facts, plan, frames[sampled], truth)
    _write_flow(root, plan, frames, settings, source)
    _write_truth(root, plan, truth, sampled / settings.fps)


def _values(plan: ClipPlan) -> dict[str, str | None]:
    return {"split": plan.split, "category": plan.category, "label": plan.label, "name": plan.name}


def _write_images(base: Path, facts: DatasetFacts, plan: ClipPlan, frames: np.ndarray, truth: Truth) -> None:
    values, images = _values(plan), facts.original
    frames_at = base / expand(images.frames, values)
    masks_at = base / expand(images.masks[plan.split], values)
    ending = facts.endings[0]
    for k, frame in enumerate(frames):
        _write_image(frames_at / f"{expand(facts.frame_files[0], values | facts.number(k))}{ending}", frame)
    masks = _union(truth) if facts.binary_masks else _label_maps(plan, truth, facts)
    # With a grey palette, indices and colours are both 0 and 255.
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3) if facts.mask_palette else None
    for k in facts.annotated_frames(plan.split, plan.label):
        file = expand(facts.mask_files[0], values | facts.number(k))
        _write_mask(masks_at / file, masks[k], palette=palette)
        if not facts.binary_masks:
            colors = voc_palette(facts.num_classes)
            _write_image(masks_at.with_name("labels_rgb") / file, colors[masks[k]])


def _label_maps(plan: ClipPlan, truth: Truth, facts: DatasetFacts) -> np.ndarray:
    """Class of the sounding objects, uint8 (T, H, W)."""
    count, _, *size = truth.masks.shape
    labels = np.zeros((count, *size), np.uint8)
    for k, item in enumerate(plan.scene.objects):
        shown = truth.masks[:, k] & truth.sounding[:, k, None, None]
        labels[shown] = facts.classes.index(item.object_class.avss)
    return labels


def _union(truth: Truth) -> np.ndarray:
    """0 / 255 masks of all sounding objects, uint8 (T, H, W)."""
    return 255 * (truth.masks & truth.sounding[:, :, None, None]).any(axis=1).astype(np.uint8)


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    path.write_bytes(encoded.tobytes())


def _write_mask(path: Path, mask: np.ndarray, *, palette: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette is not None:
        image = Image.frombytes("P", image.size, mask.tobytes())
        image.putpalette(palette.tolist())
    image.save(path)


def write_wav(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write int16 samples (n, channels)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(audio.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(audio.astype("<i2").tobytes())


def _write_flow(root: Path, plan: ClipPlan, frames: np.ndarray, settings, source: str) -> None:
    flow = flow_series(
        frames,
        fps=settings.fps,
        num_seconds=plan.scene.seconds,
        series=settings.series,
        size=(settings.flow_size, settings.flow_size),
    )
    meta = {
        "method": "dis", "weights": "", "fps": float(settings.fps), "time_step": 1 / settings.fps,
        "height": frames.shape[1], "width": frames.shape[2], "clip_id": plan.clip_id, "source": source,
    }  # fmt: skip
    path = flow_path(root / "flow", plan.subset, plan.split, plan.name, plan.category, plan.label)
    write_flow(path, FlowRecord(flow=flow.astype(np.float16), meta=meta))


def _write_truth(root: Path, plan: ClipPlan, truth: Truth, sample_times: np.ndarray) -> None:
    objects = plan.scene.objects
    layout = np.array([[item.x, item.y, item.area, item.angle] for item in objects], np.float32)
    arrays = {
        "clip_id": np.array(plan.clip_id),
        "kind": np.array(plan.scene.kind),
        "sample_times": sample_times,
        "classes": np.array([item.object_class.avss for item in objects]),
        "categories": np.array([item.object_class.category for item in objects]),
        "roles": np.array([item.role for item in objects]),
        "sounding": truth.sounding,
        "sounds": np.array(plan.sounding_classes),
        "masks": truth.masks,
        "layout": layout,
        "speed": truth.speed,
        "loudness": truth.loudness,
    }
    if truth.flow is not None:
        arrays["flow"] = truth.flow.astype(np.float16)
    with atomic_write(truth_path(root, plan.subset, plan.split, plan.name)) as file:
        np.savez_compressed(file, **arrays)
