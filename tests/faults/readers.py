"""Every reader of strangers' files: honest small files, how it is called, what it may raise and return."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from PIL import Image

from ska_vct.checkpoint.files import CheckpointError, load_state_dict
from ska_vct.data.audio.files import load_audio, probe_audio
from ska_vct.data.audio.log_mel import resample_to_16k
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.tables import read_rows
from ska_vct.data.flow.frame_pairs import read_video_pairs
from ska_vct.data.flow.methods.base import field_times
from ska_vct.data.flow.store import FlowError, FlowRecord, read_flow, read_flow_meta, write_flow
from ska_vct.data.images.io import (
    ImageError,
    check_image,
    probe_image,
    read_binary_mask,
    read_image,
    read_label_map,
)
from ska_vct.data.images.video_frames import read_video_frame
from ska_vct.data.registry import get_facts
from ska_vct.engine.setup import load_cfg
from ska_vct.evaluation.coco_files import encode_frames, load_coco, write_coco
from ska_vct.evaluation.prediction_files import load_prediction
from ska_vct.synth.truth import TruthError, read_objects
from ska_vct.utils.errors import SkaVctError
from ska_vct.utils.media.errors import AudioError, VideoError


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader.

    Attributes:
        name: the file's path below a folder of its own; what is read may be a folder above it.
        read: called with that folder.
        errors: what it documents.
        seeds: makes the honest files.
        sane: whether a value that was returned can be right.
        prepare: imports what reading needs for files unlike the honest ones, whose memory is not a file's.
    """

    file: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    sane: Callable[[object], bool] = field(default=lambda value: True)
    prepare: Callable[[], object] = field(default=lambda: None)


def saved(write: Callable, **options) -> bytes:
    file = io.BytesIO()
    write(file, **options)
    return file.getvalue()


def saved_by_torch(value: object, modern: bool) -> bytes:
    return saved(lambda file: torch.save(value, file, _use_new_zipfile_serialization=modern))


def images() -> list[bytes]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 16, 3), np.uint8)
    grey, mask = Image.fromarray(noise[..., 0]), Image.fromarray((noise[..., 0] > 90).astype(np.uint8) * 255)
    exif = Image.Exif()
    exif[274] = 6
    palette = Image.fromarray((noise[..., 0] > 90).astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    found = [saved(Image.fromarray(noise).save, format="PNG"), saved(grey.save, format="PNG", exif=exif)]
    found += [saved(Image.fromarray(noise).save, format="JPEG", exif=exif)]
    found += [saved(Image.fromarray(noise).save, format="JPEG", progressive=True)]
    found += [saved(mask.save, format="PNG"), saved(mask.convert("1").save, format="PNG")]
    return [*found, saved(palette.save, format="PNG"), saved(mask.convert("LA").save, format="PNG")]


def log_mels() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-4, 3, (2, 1, 96, 64)).astype(np.float32), np.full((1, 1, 96, 64), -4.605, np.float32)]


def npy_files() -> list[bytes]:
    return [saved(lambda file, a=array: np.save(file, a)) for array in log_mels()]


def pickles() -> list[bytes]:
    found = []
    for array in log_mels():
        tensor = torch.from_numpy(array).requires_grad_()
        found += [pickle.dumps(tensor, protocol) for protocol in (2, 4)]
        found += [pickle.dumps(array, protocol) for protocol in (0, 2, 5)]
        found.append(pickle.dumps(tensor.detach().bfloat16()))
        for modern in (True, False):
            found.append(
                saved(lambda file, t=tensor, m=modern: torch.save(t, file, _use_new_zipfile_serialization=m))
            )
    # Asking for what arrays do not need.
    found += [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nndarray\n((I20\nI1\nI96\nI64\ntS'f4'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I5\ntcnumpy\ndtype\n(S'O8'\n"
        b"I0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(lp0\ntb.",
        b"\x80\x02" + b"]" * 1000 + b"." * 3,
        b"(" * 1000 + b"N" * 1000 + b"t" * 1000 + b".",
        b"\x80\x04" + b"K\x01" * 100 + b"\x85" * 5000 + b".",
    ]
    return found


def wavs() -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for rate, channels, subtype in ((16000, 1, "PCM_16"), (8000, 2, "PCM_U8"), (16000, 1, "FLOAT"),
                                    (16000, 1, "ULAW"), (16000, 2, "PCM_24")):  # fmt: skip
        wave = rng.uniform(-0.5, 0.5, (rate // 4, channels))
        found.append(saved(lambda file, w=wave, r=rate, s=subtype: soundfile.write(file, w, r, s, format="WAV")))
    return found


def videos() -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for form, codec, sound in (
        ("mp4", "libx264", "aac"),
        ("matroska", "mpeg4", "pcm_s16le"),
        ("avi", "mpeg4", "mp2"),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=form) as container:
            video = container.add_stream(codec, rate=8)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            audio = container.add_stream(sound, rate=16000, layout="mono")
            for n in range(8):
                image = np.roll(rng.integers(0, 256, (32, 32, 3), np.uint8), n, 1)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(video.encode(None))
            block = av.AudioFrame.from_ndarray(
                rng.integers(-9000, 9000, (1, 16000)).astype(np.int16), "s16", "mono"
            )
            block.sample_rate = 16000
            context = audio.codec_context
            resampler = av.AudioResampler(context.format.name, "mono", 16000, frame_size=context.frame_size)
            for part in (*resampler.resample(block), *resampler.resample(None)):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
        found.append(file.getvalue())
    return found


META = {
    "method": "dis", "weights": "", "fps": 10.0, "time_step": 0.1, "height": 96, "width": 128, "clip_id": "test/x",
    "source": "video",
}  # fmt: skip


def flows() -> list[bytes]:
    import tempfile

    rng = np.random.default_rng(0)
    found = []
    for bits in (16, 8):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "x.npz")
            flow = rng.normal(0, 20, (2, 2, 2, 4, 5)).astype(np.float16)
            write_flow(path, FlowRecord(flow=flow, meta=META), bits=bits)
            found.append(path.read_bytes())
    return found


def published() -> list[bytes]:
    field_ = np.random.default_rng(0).uniform(0, 1, (4, 5)).astype(np.float32)
    return [saved(lambda file: np.save(file, field_)), saved(lambda file: np.save(file, field_ * 0))]


def truths() -> list[bytes]:
    rng = np.random.default_rng(0)
    arrays = {
        "clip_id": np.array("test/x"), "kind": np.array("plain"), "roles": np.array(["sounding", "twin"]),
        "categories": np.array(["dog", "cat"]), "classes": np.array(["dog", "cat"]),
        "masks": rng.random((2, 2, 4, 4)) > 0.5, "sounding": rng.random((2, 2)) > 0.5,
        "speed": rng.random((20, 2, 2)).astype(np.float32),
    }  # fmt: skip
    return [saved(lambda file: np.savez_compressed(file, **arrays)), saved(lambda file: np.savez(file, **arrays))]


def cocos(*, binary: bool) -> list[bytes]:
    import tempfile

    labels = np.random.default_rng(0).integers(0, 2 if binary else 4, (2, 8, 8))
    clip = "test/x" if binary else "v1s/x"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p.json")
        write_coco(path, encode_frames(clip, labels, [0, 1], binary=binary), list("abcd"))
        compressed = path.read_bytes()
    data = json.loads(compressed)
    for region in data["annotations"]:
        region["segmentation"] = [[1, 1, 6, 1, 6, 6]]
    polygons = json.dumps(data).encode()
    for region in data["annotations"]:
        region["segmentation"] = {"size": [8, 8], "counts": [10, 20, 34]}
    return [compressed, polygons, json.dumps(data).encode()]


def tables(subset: str) -> list[bytes]:
    heads = {
        "s4": (b"name,start time,category,split", b"-ab_1,0,%s,train"),
        "ms3": (b"video_id,split", b"abc%s,train"),
        "avss": (b"vid,uid,s_min,s_sec,a_obj,split,label", b"v,ab%s,0,0,dog_man,train,v1s"),
    }
    head, row = heads[subset]
    rows = [row % name for name in (b"dog", b"cat", b"male_speech")]
    return [b"\n".join([head, *rows, b""]), b"\xef\xbb\xbf" + b"\r\n".join([head.replace(b",", b";"), rows[0]])]


def weights() -> list[bytes]:
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3), "n": torch.tensor(3)}
    from safetensors.torch import save

    found = [
        saved(lambda file, m=m: torch.save(state, file, _use_new_zipfile_serialization=m)) for m in (True, False)
    ]
    arrays = {key: value.numpy() for key, value in state.items()}
    # Shapes that the file's bytes do not justify, and tensors without plain numbers.
    odd = (torch.ones(1).expand(1 << 40), torch.empty(1 << 40, device="meta"), torch.ones(2, 2).to_sparse())
    found += [saved(lambda file, t=tensor: torch.save({"a": t}, file)) for tensor in odd]
    return [*found, save(state), pickle.dumps({"model": arrays}), pickle.dumps({"model": arrays}, 2)]


YAML = b"""_BASE_: []
VERSION: 2
MODEL: {HIDDEN_DIM: 32, DECODER: {NUM_QUERIES: 6}}
SOLVER:
  BASE_LR: 1e-4
  FROZEN: ["backbone."]
INPUT: &size
  SIZE: [64, 64]
"""


def audio_record(kind: str, path: Path) -> dict:
    paths = {"pickle": None, "npy": None, "wav": None, "video": None} | {kind: str(path)}
    return {
        "clip_id": "test/x", "subset": "ms3", "wav_path": paths.pop("wav"), "video_path": paths.pop("video"),
        "log_mel_paths": paths,
    }  # fmt: skip


def read_audio(kind: str, path: Path) -> object:
    probe_audio(audio_record(kind, path), content=False)
    return load_audio(audio_record(kind, path), 2)


def audio_is_sane(audio) -> bool:
    return bool((np.abs(audio.log_mel) < 12).all() and audio.log_mel.shape == (2, 1, 96, 64))


def read_frames(path: Path) -> object:
    read_video_frame(path, 0.9)
    return read_video_pairs(path, field_times(1, 4)).images


def labels_below(limit: int) -> Callable[[object], bool]:
    return lambda value: value.dtype.kind in "ui" and 0 <= value.min() and value.max() < limit


def has_pixels(value) -> bool:
    return value.ndim == 3 and value.shape[2] == 3 and value.size > 0


FRAMES = {"clip_id": "test/x", "subset": "ms3", "split": "test", "name": "x"}
READERS = {
    "frame": Reader(file="x.png", read=lambda f: read_image(f / "x.png"), errors=(ImageError,), seeds=images,
                    sane=has_pixels),
    "probe": Reader(file="x.png", read=lambda f: (probe_image(f / "x.png"), check_image(f / "x.png")),
                    errors=(ImageError,), seeds=images, sane=lambda sizes: sizes[0] == sizes[1]),
    "mask": Reader(file="x.png", read=lambda f: read_binary_mask(f / "x.png"), errors=(ImageError,), seeds=images,
                   sane=labels_below(2)),
    "labels": Reader(file="x.png", read=lambda f: read_label_map(f / "x.png", 71), errors=(ImageError,),
                     seeds=images, sane=labels_below(71)),
    "prediction": Reader(file="test/x/x_1.png", read=lambda f: load_prediction(f, "test/x", [0], binary=True),
                         errors=(ImageError, SkaVctError), seeds=images, sane=labels_below(2)),
    "coco_binary": Reader(file="p.json", errors=(SkaVctError,), seeds=lambda: cocos(binary=True),
                          read=lambda f: load_coco(f / "p.json", binary=True).load("test/x", [0, 1]),
                          sane=labels_below(2)),
    "coco_semantic": Reader(file="p.json", errors=(SkaVctError,), seeds=lambda: cocos(binary=False),
                            read=lambda f: load_coco(f / "p.json", binary=False, num_classes=4).load("v1s/x", [0]),
                            sane=labels_below(4)),
    "npy": Reader(file="x.npy", read=lambda f: read_audio("npy", f / "x.npy"), errors=(AudioError,),
                  seeds=npy_files, sane=audio_is_sane),
    "pickle": Reader(file="x.pkl", read=lambda f: read_audio("pickle", f / "x.pkl"), errors=(AudioError,),
                     seeds=pickles, sane=audio_is_sane),
    "wav": Reader(file="x.wav", read=lambda f: read_audio("wav", f / "x.wav"), errors=(AudioError,), seeds=wavs,
                  sane=audio_is_sane),
    "video_audio": Reader(file="x.mp4", read=lambda f: read_audio("video", f / "x.mp4"), errors=(AudioError,),
                          seeds=videos, sane=audio_is_sane,
                          prepare=lambda: resample_to_16k(np.zeros(800), 8000)),
    "video_frames": Reader(file="x.mp4", read=lambda f: read_frames(f / "x.mp4"), errors=(VideoError, FlowError),
                           seeds=videos),
    "flow": Reader(file="x.npz", read=lambda f: read_flow(f / "x.npz"), errors=(FlowError,), seeds=flows,
                   sane=lambda record: bool((np.abs(record.flow) < 65504).all())),
    "flow_meta": Reader(file="x.npz", read=lambda f: read_flow_meta(f / "x.npz"), errors=(FlowError,),
                        seeds=flows),
    "flow_published": Reader(file="x/flow_0000.npy", read=lambda f: read_flow(f / "x.npz"), errors=(FlowError,),
                             seeds=published, sane=lambda r: bool(((r.flow >= 0) & (r.flow <= 1.01)).all())),
    "truth": Reader(file="synth_truth/ms3/test/x.npz", read=lambda f: read_objects(f, FRAMES),
                    errors=(TruthError,), seeds=truths),
    "checkpoint": Reader(file="x.pth", read=lambda f: load_state_dict(f / "x.pth"), errors=(CheckpointError,),
                         seeds=weights),
    "yaml": Reader(file="x.yaml", read=lambda f: load_cfg(str(f / "x.yaml")), errors=(SkaVctError,),
                   seeds=lambda: [YAML]),
    **{f"table_{name}": Reader(file=file, read=lambda f, n=name: read_rows(get_facts(n), str(f)),
                               errors=(DatasetError,), seeds=lambda n=name: tables(n))
       for name, file in (("s4", "s4_meta_data.csv"), ("ms3", "ms3_meta_data.csv"), ("avss", "metadata.csv"))},
}  # fmt: skip
