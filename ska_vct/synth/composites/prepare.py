"""Gathers cut-outs, recordings and photographs below one folder, divided into splits, with their licences.

``ROOT/sources/sources.csv`` has a row per file: its name, what it is, where it comes from, its licence, its group
and its split. Files of one group never lie in different splits: they show the same thing (``pig``, ``pig_golden``)
or share a recording.
"""

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from tqdm import tqdm

from ska_vct.data.audio.log_mel import SAMPLE_RATE, resample_to_16k, to_mono
from ska_vct.data.facts import SPLITS
from ska_vct.synth.composites.packages import KNOWN, Known, Licences, package_name, read_package
from ska_vct.synth.release import write_wav
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.media.audio import read_video_audio
from ska_vct.utils.media.errors import AudioError

SOURCES, TABLE = "sources", "sources.csv"
CUTOUT, PHOTO = "cutout", "photograph"
_AUDIO = (".ogg", ".wav", ".flac", ".mp3")
_IMAGES = (".png", ".jpg", ".jpeg")
# Sides that are kept; clips are not much larger.
_CUTOUT_SIDE, _PHOTO_SIDE = 360, 720
_MIN_SIDE = 48
_MAX_PIXELS = 64_000_000
_MAX_SECONDS = 20.0
# Recordings below this peak are silence.
_SILENT = 1e-3
_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One cut-out or photograph.

    Attributes:
        name: of its files below the folder of sources, without ending.
        kind: ``cutout`` or ``photograph``.
        sound: whether it has a recording, ``name.wav``.
        group: what it shows, roughly; groups are divided among splits, not files.
        split: train, val or test.
        origin: path in its package or folder.
        package: file name of the package, or the folder.
        licence: of the file and of its recording.
        note: why a recording was not used, if so.
    """

    name: str
    kind: str
    sound: bool
    group: str
    split: str
    origin: str
    package: str
    licence: str
    note: str = ""


@dataclass
class _Found:
    """A file before it is stored."""

    path: str
    package: str
    licence: str
    image: np.ndarray
    known: Known
    audio: tuple[np.ndarray, str] | None = None  # samples at 16 kHz; digest of the file
    note: str = ""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem


def prepare_sources(
    root: str | os.PathLike,
    *,
    packages: Iterable[str | os.PathLike] = (),
    cutouts: str | os.PathLike | None = None,
    photographs: str | os.PathLike | None = None,
    licence: str = "unknown",
    seed: int = 0,
    progress: bool = True,
) -> list[Source]:
    """Gather sources below ``root/sources``, unless they are there already.

    Args:
        root: of the release.
        packages: Debian packages, as they are.
        cutouts: folder of PNG files with alpha, some with an audio file of the same name.
        photographs: folder of PNG and JPEG files.
        licence: of the folders' files, as the table names it.
        seed: of the division into splits.
        progress: show progress bars.

    Raises:
        InputError: a package or folder is unusable, or there is too little for three splits.
    """
    folder = Path(root, SOURCES)
    if (folder / TABLE).is_file():
        return read_sources(root)
    found: list[_Found] = []
    for package in packages:
        found += _from_package(Path(package), folder, progress=progress)
    for place, kind in ((cutouts, CUTOUT), (photographs, PHOTO)):
        if place is not None:
            found += _from_folder(Path(place), kind, licence, progress=progress)
    sources = _divide(found, seed)
    _check_enough(sources)
    for item, source in tqdm(list(zip(found, sources, strict=True)), "Storing sources", disable=not progress):
        _store(folder, item, source)
    with atomic_write(folder / TABLE, "w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Source)], lineterminator="\n")
        table.writeheader()
        table.writerows({**asdict(source), "sound": int(source.sound)} for source in sources)
    return sources


def read_sources(root: str | os.PathLike) -> list[Source]:
    """The table of ``root/sources``.

    Raises:
        InputError: it is missing or damaged.
    """
    path = Path(root, SOURCES, TABLE)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [Source(**{**row, "sound": row["sound"] == "1"}) for row in csv.DictReader(file)]
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"The table of sources {path} cannot be read ({error}); make it with datasets/make_composites.py."
        ) from None


def _from_package(path: Path, folder: Path, *, progress: bool) -> list[_Found]:
    name = package_name(path)
    known = KNOWN.get(name)
    if known is None:
        raise InputError(
            f"Nothing is known about the content of package '{name}'; known are {', '.join(KNOWN)}. Unpack it "
            "with 'dpkg-deb -x', choose the files that fit and name their folders."
        )
    patterns = (*(f"*{ending}" for ending in (*_AUDIO, *_IMAGES)), "*/copyright")
    images, sounds, text = {}, {}, ""
    for file in tqdm(read_package(path, patterns), f"Reading {path.name}", unit="file", disable=not progress):
        stem, ending = os.path.splitext(file.path)
        if file.path.endswith("/copyright"):
            text = file.data.decode("utf-8", "replace")
        elif ending in _AUDIO:
            if "_desc" not in stem and _wanted_cutout(f"{stem}.png", known):
                sounds[stem] = file.data
        elif _wanted_cutout(file.path, known) or _photograph(file.path, known):
            images[file.path] = file.data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.copyright").write_text(text, encoding="utf-8")
    licences, found, seen = Licences(text), [], set()
    for place in sorted(images, key=lambda place: (-len(images[place]), place)):
        title = _photograph(place, known)
        if title in seen:
            continue  # the same photograph in a smaller size
        image = _decode(images[place], f"{place} of {path}")
        if title:
            seen.add(title)
        elif image.shape[2] != 4:
            continue
        item = _Found(place, path.name, licences.of(place), image, known)
        if title:
            item.path = f"{title}.jpg"
        else:
            _add_sound(item, sounds.get(os.path.splitext(place)[0]), folder)
        found.append(item)
    return sorted(found, key=lambda item: item.path)


def _wanted_cutout(path: str, known: Known) -> bool:
    return (
        path.endswith(".png")
        and any(fnmatch(path, pattern) for pattern in known.cutouts)
        and not any(fnmatch(path, pattern) for pattern in known.not_cutouts)
        and not PurePosixPath(path).stem.endswith(("_mirror", "_flip"))
    )


def _photograph(path: str, known: Known) -> str:
    """The name by which a photograph is known, else empty: its own, or its folder's where there are many sizes."""
    parts = (PurePosixPath(path).stem, *PurePosixPath(path).parts)
    if not path.endswith(_IMAGES):
        return ""
    return next((part for part in parts if part in known.photographs), "")


def _from_folder(place: Path, kind: str, licence: str, *, progress: bool) -> list[_Found]:
    if not place.is_dir():
        raise InputError(f"There is no folder {place}.")
    found, endings = [], (".png",) if kind == CUTOUT else _IMAGES
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in endings and path.is_file())
    for path in tqdm(paths, f"Reading {place}", unit="file", disable=not progress):
        image = _decode(path.read_bytes(), str(path))
        if kind == CUTOUT and image.shape[2] != 4:
            raise InputError(f"Cut-out {path} has no transparency; cut out the object and save it with alpha.")
        photo = image[..., :3] if kind == PHOTO else image
        item = _Found(str(path.relative_to(place)), str(place), licence, photo, Known())
        sound = next((path.with_suffix(end) for end in _AUDIO if path.with_suffix(end).is_file()), None)
        if kind == CUTOUT and sound is not None:
            _add_sound(item, sound.read_bytes(), place, sound)
        found.append(item)
    if not found:
        raise InputError(f"Folder {place} holds no {' or '.join(endings)} files.")
    return found


def _decode(data: bytes, where: str) -> np.ndarray:
    """uint8 (h, w, 3 or 4), RGB or RGBA."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[0] * image.shape[1] > _MAX_PIXELS:
        raise InputError(f"Image {where} is damaged or too large.")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    elif image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    else:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image


def _add_sound(item: _Found, data: bytes | None, folder: Path, path: Path | None = None) -> None:
    if data is None:
        return
    if item.stem in item.known.not_own_sound:
        item.note = "its recording is speech or another thing's sound"
        return
    temporary = None
    if path is None:
        path = temporary = folder / "recording.part"
        path.write_bytes(data)
    try:
        samples, rate = read_video_audio(path, seconds=_MAX_SECONDS)
    except AudioError as error:
        item.note = f"its recording cannot be read ({error})"
        return
    finally:
        if temporary is not None:
            temporary.unlink()
    wave = resample_to_16k(to_mono(samples), rate)
    if not len(wave) or np.abs(wave).max() < _SILENT:
        item.note = "its recording is silence"
        return
    item.audio = wave / np.abs(wave).max(), hashlib.sha256(data).hexdigest()


def _divide(found: list[_Found], seed: int) -> list[Source]:
    """Give every file a group and a split."""
    kinds = [CUTOUT if item.image.shape[2] == 4 else PHOTO for item in found]
    # Things of one name and things that share a recording belong together.
    groups = [f"{kind}:{_first_word(item.stem)}" for item, kind in zip(found, kinds, strict=True)]
    by_recording: dict[str, str] = {}
    for index, item in enumerate(found):
        if item.audio is not None:
            other = by_recording.setdefault(item.audio[1], groups[index])
            groups = [other if group == groups[index] else group for group in groups]
    sounding = {group for group, item in zip(groups, found, strict=True) if item.audio is not None}
    rng, split_of = np.random.default_rng(seed), {}
    pools = (
        sorted(sounding),
        sorted({g for g, k in zip(groups, kinds, strict=True) if k == CUTOUT} - sounding),
        sorted({g for g, k in zip(groups, kinds, strict=True) if k == PHOTO}),
    )
    ends = np.cumsum([_SHARES[split] for split in SPLITS])
    for pool in pools:
        for place, number in enumerate(rng.permutation(len(pool))):
            split_of[pool[number]] = SPLITS[int(np.searchsorted(ends, (place + 0.5) / len(pool)))]
    names: dict[str, int] = {}
    sources = []
    for item, kind, group in zip(found, kinds, groups, strict=True):
        count = names[item.stem] = names.get(item.stem, 0) + 1
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in item.stem) + (
            f"__{count}" if count > 1 else ""
        )
        sources.append(
            Source(
                name=name,
                kind=kind,
                sound=item.audio is not None,
                group=group.split(":")[1],
                split=split_of[group],
                origin=item.path,
                package=item.package,
                licence=item.licence,
                note=item.note,
            )  # fmt: skip
        )
    return sources


def _first_word(stem: str) -> str:
    word = stem.lower().replace("-", "_").split("_")[0].rstrip("0123456789")
    return word or stem


def _check_enough(sources: list[Source]) -> None:
    for split in SPLITS:
        own = [source for source in sources if source.split == split]
        groups = {source.group for source in own if source.sound}
        photographs = [source for source in own if source.kind == PHOTO]
        if len(groups) < 2 or not photographs:
            raise InputError(
                f"Split {split} would have {len(groups)} kinds of sounding objects and {len(photographs)} "
                "photographs; at least 2 and 1 are needed in every split: about 20 sounding cut-outs and 10 "
                "photographs in all."
            )


def _store(folder: Path, item: _Found, source: Source) -> None:
    image = _cropped(item.image) if source.kind == CUTOUT else item.image
    side = _CUTOUT_SIDE if source.kind == CUTOUT else _PHOTO_SIDE
    scale = side / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    path = folder / source.kind / f"{source.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, order))[1].tobytes())
    if item.audio is not None:
        write_wav(path.with_suffix(".wav"), np.rint(item.audio[0] * 32767).astype(np.int16)[:, None], SAMPLE_RATE)


def _cropped(image: np.ndarray) -> np.ndarray:
    """Without empty borders."""
    rows, columns = (np.flatnonzero((image[..., 3] > 8).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
