"""Small cut-outs, recordings and photographs."""

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from ska_vct.synth.composites import make_release

SETTINGS = {"size": 64, "flow_size": 12, "series": 5, "fps": 8}


def write_cutout(path: Path, rng: np.random.Generator, *, size: int = 56) -> None:
    image = np.zeros((size, size, 4), np.uint8)
    image[..., :3] = rng.integers(0, 255, 3)
    cv2.circle(image, (size // 2, size // 2), size // 3, (*rng.integers(0, 255, 3).tolist(), 255), -1)
    cv2.imwrite(str(path), image)


def write_recording(path: Path, rng: np.random.Generator, *, level: float = 0.5) -> None:
    times = np.arange(12000) / 16000
    wave_ = level * np.sin(2 * np.pi * rng.uniform(200, 2000) * times) * (np.sin(9 * times) ** 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((wave_ * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of cut-outs with recordings, and of photographs."""
    cutouts, photographs = tmp_path_factory.mktemp("cutouts"), tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    letters = "abcdefghijklmnopqrstuv"
    for letter in letters:
        write_cutout(cutouts / f"thing{letter}.png", rng)
        write_recording(cutouts / f"thing{letter}.wav", rng)
    # The same animal twice, two animals that share a recording, and a recording of silence.
    write_cutout(cutouts / "thinga_old.png", rng)
    write_cutout(cutouts / "double.png", rng)
    (cutouts / "double.wav").write_bytes((cutouts / "thingb.wav").read_bytes())
    write_cutout(cutouts / "mute.png", rng)
    write_recording(cutouts / "mute.wav", rng, level=0.0)
    for letter in letters[:12]:
        write_cutout(cutouts / f"silent{letter}.png", rng)
        noise = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(photographs / f"view{letter}.jpg"), cv2.resize(noise, (120, 90)))
    return cutouts, photographs


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    """Settings of small clips."""
    return SETTINGS


@pytest.fixture(scope="session")
def release(material, tmp_path_factory) -> Path:
    """A small release."""
    root = tmp_path_factory.mktemp("composites")
    cutouts, photographs = material
    counts = {"train": 10, "val": 2, "test": 2}
    make_release(
        root, cutouts=cutouts, photographs=photographs, licence="CC0-1.0", jobs=1, progress=False, **counts,
        **SETTINGS,
    )  # fmt: skip
    return root
