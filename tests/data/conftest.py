"""A few hand-written clips in each of AVSBench's three layouts, with the oddities of the releases."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

STRAY = (".DS_Store", "._1.png", "PaxHeader")


class Release:
    """Writes clips below ``root``; images show a bright square where the mask is set."""

    def __init__(self, root: Path):
        self.root = root
        self.rng = np.random.default_rng(0)
        self.s4 = root / "AVSBench_object" / "Single-source"
        self.ms3 = root / "AVSBench_object" / "Multi-sources"
        self.avss = root / "AVSBench_semantic"

    def image(self, path: Path, shape: tuple[int, int] = (32, 40), shift: int = 0) -> None:
        array = self.rng.integers(0, 60, (*shape, 3)).astype(np.uint8)
        array[self.square(shape, shift)] += 180
        self._save(Image.fromarray(array), path)

    def mask(self, path: Path, shape: tuple[int, int] = (32, 40), shift: int = 0, mode: str = "L") -> None:
        inside = self.square(shape, shift)
        if mode == "1":
            image = Image.fromarray(inside)
        else:
            image = Image.fromarray((inside * 255).astype(np.uint8), mode="L")
        if mode == "P":
            image = Image.fromarray((inside * 255).astype(np.uint8))
            image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
        self._save(image, path)

    def label_map(self, path: Path, label: int, shape: tuple[int, int] = (32, 40), shift: int = 0) -> None:
        self._save(Image.fromarray((self.square(shape, shift) * label).astype(np.uint8)), path)

    def wav(self, path: Path, seconds: float = 5.0, rate: int = 16000, channels: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = self.rng.integers(-9000, 9000, (int(seconds * rate), channels)).astype(np.int16)
        soundfile.write(path, samples, rate, subtype="PCM_16")

    @staticmethod
    def square(shape: tuple[int, int], shift: int = 0) -> np.ndarray:
        """Where the object is: a rectangle in fractions of the image, off its middle."""
        inside = np.zeros(shape, bool)
        height, width = shape
        left = width // 8 + shift
        inside[height // 4 : height // 2, left : left + width // 2] = True
        return inside

    def write_s4(
        self, names=("-dash_1", "plain"), splits=("train", "val", "test"), category="cat_meowing"
    ) -> None:
        data = self.s4 / "s4_data"
        rows = ["name,start time,category,split"]
        for split in splits:
            for name in names:
                rows.append(f"{name},0,{category},{split}")
                folder = Path(split, category)
                for k in range(1, 6):
                    self.image(data / "visual_frames" / folder / name / f"{name}_{k}.png")
                for k in range(1, 2 if split == "train" else 6):
                    self.mask(data / "gt_masks" / folder / name / f"{name}_{k}.png", mode="1")
                self.wav(data / "audio_wav" / folder / f"{name}.wav")
                self._touch_strays(data / "visual_frames" / folder / name)
        (self.s4 / "s4_meta_data.csv").write_text("\n".join(rows) + "\n")

    def write_ms3(self, names=("one", "two"), splits=("train", "val", "test"), infix=".mp4") -> None:
        data = self.ms3 / "ms3_data"
        rows = ["name,split"]
        for split in splits:
            for name in names:
                name = f"{split}_{name}"
                rows.append(f"{name},{split}")
                for k in range(1, 6):
                    self.image(data / "visual_frames" / name / f"{name}{infix}_{k}.png", shift=k)
                    self.mask(data / "gt_masks" / split / name / f"{name}_{k}.png", shift=k, mode="P")
                self.wav(data / "audio_wav" / split / f"{name}.wav")
        (self.ms3 / "ms3_meta_data.csv").write_text("\n".join(rows) + "\n")

    def write_avss(self) -> None:
        rows = ["label,uid,split,extra,a_obj,vid"]
        for label, uid, split in (
            ("v1s", "-a_train", "train"), ("v1s", "a_test", "test"), ("v1m", "b_train", "train"),
            ("v2", "c_test", "test"), ("v2", "c_val", "val"),
        ):  # fmt: skip
            rows.append(f"{label},{uid},{split},x,dog_emergency-car,v")
            folder, count = self.avss / label / uid, 10 if label == "v2" else 5
            for k in range(count):
                self.image(folder / "frames" / f"{k}.jpg")
                if not (label == "v1s" and split == "train" and k):
                    self.label_map(folder / "labels_semantic" / f"{k}.png", label=17)
            self.wav(folder / "audio.wav", seconds=count)
            self._touch_strays(folder / "frames")
        # A byte order mark, as spreadsheets write it.
        (self.avss / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")

    def _save(self, image: Image.Image, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95)

    def _touch_strays(self, folder: Path) -> None:
        for name in STRAY:
            (folder / name).touch()


@pytest.fixture
def release(tmp_path) -> Release:
    return Release(tmp_path)


@pytest.fixture
def small_disk() -> Callable:
    """``with small_disk(size):`` no file can grow beyond so many bytes: the system refuses, as on a full disk."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
