"""One clip's files in AVSBench's layouts, its flow and its truth (spec: data.md).

The truth, ``synth_truth/{subset}/{split}/{name}.npz``, holds what a release does not (K objects in drawing order):

==============  ===================  ============================================================
array           type, shape          meaning
==============  ===================  ============================================================
clip_id, kind   str                  the reader's name of the clip; its kind of scene
sample_times    float64 (T,)         moments of the sampled frames, seconds
classes         str (K,)             AVSS class of each object
categories      str (K,)             S4 category of each object
roles           str (K,)             sounding, twin, mover or still
sounding        bool (T, K)          which object sounds in which second
sounds          str (any,)           AVSS classes of all that is heard, in view or not
masks           bool (T, K, H, W)    what is visible of each object in the sampled frames
layout          float32 (K, 4)       resting place x and y, area (pixels), rotation (radians)
speed           float32 (T, S, K)    mean speed of an object's pixels, pixels per second, camera left out
loudness        float32 (T, S, K)    mean envelope of what sounds, 0..1
flow            float16 (T, 2, H, W) true flow at the sampled frames, pixels per second
==============  ===================  ============================================================
"""

import wave
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ska_vct.data.avsbench.subsets import AVSS_CLASSES, get_subset
from ska_vct.data.flow.methods.base import flow_series
from ska_vct.data.flow.store import FlowRecord, flow_path, write_flow
from ska_vct.synth.plan import ClipPlan
from ska_vct.synth.render import Renderer, Truth, draw_soundtrack
from ska_vct.synth.settings import SynthSettings
from ska_vct.synth.truth import truth_path
from ska_vct.synth.video import write_video
from ska_vct.utils.npz import write_npz
from ska_vct.utils.palette import voc_palette

TABLES = {"s4": "s4_meta_data.csv", "ms3": "ms3_meta_data.csv", "avss": "metadata.csv"}
_JPEG_QUALITY = 95


def table_row(plan: ClipPlan) -> dict[str, str]:
    """The clip's line in the release's own table."""
    if plan.subset == "s4":
        return {"name": plan.name, "start time": "0", "category": plan.category, "split": plan.split}
    if plan.subset == "ms3":
        return {"name": plan.name, "split": plan.split}
    return {
        "vid": plan.vid, "uid": plan.name, "s_min": "0", "s_max": str(plan.scene.seconds),
        "a_obj": "_".join(plan.sounding_classes), "split": plan.split, "label": plan.label,
    }  # fmt: skip


def write_clip(root: Path, plan: ClipPlan, settings: SynthSettings) -> None:
    """Draw a clip and write all its files below ``root``, as a whole release has them."""
    renderer = Renderer(plan.scene, fps=settings.fps, flicker=settings.flicker)
    frames, truth = renderer.frames(), renderer.truth(steps=settings.series)
    sampled = renderer.sampled()
    sound = draw_soundtrack(plan.scene, rate=settings.audio_rate, channels=settings.channels, hiss=settings.hiss)
    base = root / get_subset(plan.subset).folder
    write = {"s4": _write_s4, "ms3": _write_ms3, "avss": _write_avss}[plan.subset]
    wav, video = write(base, plan, frames[sampled], truth)
    for path in (wav, video):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write_wav(wav, sound, settings.audio_rate)
    write_video(video, frames, fps=settings.fps, sound=sound, rate=settings.audio_rate)
    _write_flow(root, plan, frames, settings)
    _write_truth(root, plan, truth, sampled / settings.fps)


def _write_s4(base: Path, plan: ClipPlan, frames: np.ndarray, truth: Truth) -> tuple[Path, Path]:
    data, folder = base / "s4_data", Path(plan.split, plan.category)
    for k, frame in enumerate(frames, 1):
        _write_picture(data / "visual_frames" / folder / plan.name / f"{plan.name}_{k}.png", frame)
    masks = _union(truth)
    for t in get_subset("s4").annotated_frames(plan.split):
        _write_mask(data / "gt_masks" / folder / plan.name / f"{plan.name}_{t + 1}.png", masks[t])
    return data / "audio_wav" / folder / f"{plan.name}.wav", data / "raw_videos" / folder / f"{plan.name}.mp4"


def _write_ms3(base: Path, plan: ClipPlan, frames: np.ndarray, truth: Truth) -> tuple[Path, Path]:
    data = base / "ms3_data"
    for k, frame in enumerate(frames, 1):
        _write_picture(data / "visual_frames" / plan.name / f"{plan.name}.mp4_{k}.png", frame)
    masks = _union(truth)
    for t in get_subset("ms3").annotated_frames(plan.split):
        path = data / "gt_masks" / plan.split / plan.name / f"{plan.name}_{t + 1}.png"
        # Released MS3 masks have a palette; a grey one gives 0 and 255 to every way of reading.
        _write_mask(path, masks[t], palette=np.repeat(np.arange(256, dtype=np.uint8), 3))
    return data / "audio_wav" / plan.split / f"{plan.name}.wav", data / "raw_videos" / f"{plan.name}.mp4"


def _write_avss(base: Path, plan: ClipPlan, frames: np.ndarray, truth: Truth) -> tuple[Path, Path]:
    folder = base / plan.label / plan.name
    for t, frame in enumerate(frames):
        _write_picture(folder / "frames" / f"{t}.jpg", frame)
    palette = voc_palette(len(AVSS_CLASSES))
    labels = np.zeros((len(frames), *frames.shape[1:3]), np.uint8)
    for k, item in enumerate(plan.scene.objects):
        labels[truth.masks[:, k] & truth.sounding[:, k, None, None]] = AVSS_CLASSES.index(item.object_class.avss)
    for t in get_subset("avss").annotated_frames(plan.split, plan.label):
        _write_mask(folder / "labels_semantic" / f"{t}.png", labels[t])
        _write_picture(folder / "labels_rgb" / f"{t}.png", palette[labels[t]])
    # AVSS is released without videos; ours lies beside the sound, where the reader looks for one.
    return folder / "audio.wav", folder / "video.mp4"


def _union(truth: Truth) -> np.ndarray:
    """0 / 255 masks of all that sounds, uint8 (T, H, W)."""
    return 255 * (truth.masks & truth.sounding[:, :, None, None]).any(axis=1).astype(np.uint8)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    path.write_bytes(encoded.tobytes())


def _write_mask(path: Path, mask: np.ndarray, *, palette: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette is not None:
        image = Image.frombytes("P", image.size, mask.tobytes())
        image.putpalette(palette.tolist())
    image.save(path)


def _write_wav(path: Path, sound: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.astype("<i2").tobytes())


def _write_flow(root: Path, plan: ClipPlan, frames: np.ndarray, settings: SynthSettings) -> None:
    flow = flow_series(
        frames,
        fps=settings.fps,
        num_seconds=plan.scene.seconds,
        series=settings.series,
        size=(settings.flow_size, settings.flow_size),
    )
    meta = {
        "method": "dis", "weights": "", "fps": float(settings.fps), "time_step": 1 / settings.fps,
        "height": frames.shape[1], "width": frames.shape[2], "clip_id": plan.clip_id, "source": "rendered frames",
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
        "flow": truth.flow.astype(np.float16),
    }
    write_npz(truth_path(root, plan.subset, plan.split, plan.name), arrays)
