"""Draws a composite's content.

As for drawings, all places and sizes are drawn together and given to roles by lot, silent movers rest as often as
sounding objects, and all objects of a clip share the distributions of motion and light: nothing but motion with
sound tells a sounding object from a twin or a mover.
"""

from dataclasses import dataclass

import numpy as np

from ska_vct.data.audio.log_mel import SAMPLE_RATE
from ska_vct.synth.composites.library import Library, Thing
from ska_vct.synth.composites.prepare import Source
from ska_vct.synth.composites.settings import SECONDS, CompositeSettings
from ska_vct.synth.composites.sounds import draw_track, draw_unrelated_track
from ska_vct.synth.envelopes import Envelope
from ska_vct.synth.motion import ORBITS, Motion, draw_motion
from ska_vct.synth.scene import draw_active

_AREA = (0.03, 0.3)  # share of the image that one of two objects covers
_AREA_SINGLE = (0.06, 0.4)
_AREA_CLOSE = (0.4, 0.8)
_MOTION = (0.4, 1.6)
_HISS = (1e-4, 1e-2)
_CLOSENESS = 0.7  # below 1: silhouettes may overlap a little
# A second of a sounding object counts as sounding above this mean loudness.
HEARD = 0.02


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of an object that moves while the rest stands: a soft disc.

    Attributes:
        x, y: centre, as shares of the cut-out's width and height.
        radius: as a share of its longer side.
        reach: amplitude, in multiples of a whole object's.
    """

    x: float
    y: float
    radius: float
    reach: float


@dataclass(frozen=True, kw_only=True)
class Light:
    """How an object is lit, the same for all objects of one look in a clip."""

    gain: float
    gamma: float
    tint: float
    feather: float
    shadow: float
    shadow_offset: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One object; attributes as :class:`ska_vct.synth.scene.SceneObject` has them."""

    source: Source
    object_class: Thing
    role: str
    x: float
    y: float
    area: float
    angle: float
    mirrored: bool
    motion: Motion
    envelope: Envelope | None
    part: Part | None
    light: Light


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound, as samples on the clip's time line."""

    object_class: Thing
    samples: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Pan, zoom and shake: a point p of the scene is shown at centre + zoom (p - centre) + offset.

    Attributes:
        pan: (2,) amplitude in pixels.
        shake: amplitude in pixels.
        zoom: amplitude of the logarithm of the size.
        periods: (4,) seconds: pan x and y, zoom, shake.
        phases: (5,) radians.
    """

    pan: np.ndarray
    shake: float
    zoom: float
    periods: np.ndarray
    phases: np.ndarray

    def pose(self, times: np.ndarray) -> np.ndarray:
        """dx, dy and zoom at ``times`` (n,): float64 (n, 3)."""
        turns = 2 * np.pi * np.asarray(times)[:, None] / self.periods + self.phases[:4]
        shake = self.shake * np.stack([np.sin(turns[:, 3]), np.sin(1.7 * turns[:, 3] + self.phases[4])], axis=1)
        offset = self.pan * np.sin(turns[:, :2]) + shake
        return np.column_stack([offset, np.exp(self.zoom * np.sin(turns[:, 2]))])


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A clip before it is drawn; ``objects`` are in drawing order, the last one in front."""

    kind: str
    seconds: int
    height: int
    width: int
    objects: tuple[Placed, ...]
    sources: tuple[Sound, ...]
    camera: Camera | None
    background: Source
    occluder: Source | None
    hiss: float
    style_seed: int


def draw_composite(
    rng: np.random.Generator, kind: str, library: Library, settings: CompositeSettings
) -> Composite:
    """Draw a clip of ``kind`` (a key of ``COMPOSITE_KINDS``)."""
    size, seconds = settings.size, SECONDS
    content = kind if kind != "camera" else ("plain", "twin", "mover")[rng.integers(3)]
    roles, things = _draw_roles(rng, content, library)
    voices = [source if source.sound else None for source in things]
    if settings.dubbed and rng.random() < settings.dubbed:
        things = _dub(rng, library, things)
    places = _draw_places(rng, len(roles), size, settings.close)
    lot = rng.permutation(len(roles))
    objects, sounds = [], []
    heard: Envelope | None = None
    lights: dict[str, Light] = {}
    recordings = [library.recording(source) for group in library.sounding.values() for source in group]
    for number, (role, source, voice) in enumerate(zip(roles, things, voices, strict=True)):
        envelope, thing = None, Thing(source.name, source.group)
        active = draw_active(rng, seconds, settings.rest)
        moves = content != "quiet" or role != "sounding"
        if role == "sounding":
            samples, envelope = draw_track(rng, library.recording(voice), active)
            sound = Sound(
                object_class=Thing(voice.name, voice.group), samples=_later(samples, rng.uniform(0, settings.lag))
            )
            sounds.append(sound)
            heard = heard or envelope
        elif role == "mover":
            others = [r for r in recordings if voice is None or r is not library.recording(voice)] or recordings
            reference = heard or draw_track(rng, others[rng.integers(len(others))], active)[1]
            envelope = draw_unrelated_track(rng, others, active, reference)
        orbit = sorted(ORBITS)[rng.integers(len(ORBITS))]
        motion = draw_motion(
            rng,
            orbit,
            side=size,
            scale=rng.uniform(*_MOTION),
            envelope=envelope if moves else None,
            seconds=seconds,
        )
        part = _draw_part(rng) if rng.random() < settings.partial else None
        light = lights.setdefault(source.name, _draw_light(rng))
        objects.append(
            Placed(
                source=source, object_class=thing, role=role, motion=motion, envelope=envelope, part=part,
                light=light, **places[lot[number]],
            )
        )  # fmt: skip
    if content == "offscreen":
        group = _other_group(rng, library, {source.group for source in things})
        source = _one(rng, library.sounding[group])
        samples, _ = draw_track(rng, library.recording(source), draw_active(rng, seconds, settings.rest))
        sounds.append(Sound(object_class=Thing(source.name, source.group), samples=samples))
    order = rng.permutation(len(objects))
    camera = None
    if kind == "camera":
        camera = _draw_camera(rng, size, 1.0)
    elif rng.random() < settings.shake:
        camera = _draw_camera(rng, size, 0.12)
    occluder = _one(rng, library.silent) if library.silent and rng.random() < settings.occluder else None
    # In half of the silent clips digital silence, else the noise of a room.
    quiet = kind == "silence" and rng.random() < 0.5
    return Composite(
        kind=kind, seconds=seconds, height=size, width=size, objects=tuple(objects[k] for k in order),
        sources=tuple(sounds), camera=camera, background=_one(rng, library.photographs), occluder=occluder,
        hiss=0.0 if quiet else float(np.exp(rng.uniform(*np.log(_HISS)))), style_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def mixed(scene: Composite) -> np.ndarray:
    """The clip's audio, int16 (seconds * 16000, 1)."""
    rng = np.random.default_rng(scene.style_seed)
    mix = scene.hiss * rng.standard_normal(scene.seconds * SAMPLE_RATE)
    for sound in scene.sources:
        mix += sound.samples
    return np.rint(np.clip(mix, -1, 1) * 32767).astype(np.int16)[:, None]


def _draw_roles(rng: np.random.Generator, kind: str, library: Library) -> tuple[list[str], list[Source]]:
    """Roles, and a cut-out for each."""
    first = _one(rng, library.sounding[_other_group(rng, library, set())])
    second = _one(rng, library.sounding[_other_group(rng, library, {first.group})])
    silent = _one(rng, library.silent) if library.silent else second
    pair = rng.random() < 0.5
    if kind == "twin":
        return ["sounding", "twin"], [first, first]
    if kind == "mover":
        return ["sounding", "mover"], [first, first if pair else second]
    if kind == "several":
        return ["sounding", "sounding"], [first, second]
    if kind == "quiet":
        return (["sounding", "mover"], [first, second]) if pair else (["sounding"], [first])
    if kind in ("offscreen", "silence"):
        roles = ["mover" if kind == "silence" or rng.random() < 0.5 else "still" for _ in range(1 + pair)]
        return roles, [first, silent][: len(roles)]
    return (["sounding", "still"], [first, silent]) if rng.random() < 0.4 else (["sounding"], [first])


def _other_group(rng: np.random.Generator, library: Library, excluded: set[str]) -> str:
    groups = sorted(set(library.sounding) - excluded) or sorted(library.sounding)
    return groups[rng.integers(len(groups))]


def _dub(rng: np.random.Generator, library: Library, things: list[Source]) -> list[Source]:
    """Silent cut-outs in place of ``things``; pairs stay pairs."""
    if not library.silent:
        return things
    looks = {name: _one(rng, library.silent) for name in dict.fromkeys(source.name for source in things)}
    return [looks[source.name] for source in things]


def _one(rng: np.random.Generator, sources: list[Source]) -> Source:
    return sources[rng.integers(len(sources))]


def _later(samples: np.ndarray, seconds: float) -> np.ndarray:
    shift = round(seconds * SAMPLE_RATE)
    return np.concatenate([np.zeros(shift), samples])[: len(samples)]


def _draw_places(rng: np.random.Generator, count: int, size: int, close: float) -> list[dict]:
    """Places, sizes and rotations; a pair that overlaps too much is rejected as a whole."""
    if count == 1:
        near = rng.random() < close
        area = rng.uniform(*_AREA_CLOSE) if near else np.exp(rng.uniform(*np.log(_AREA_SINGLE)))
        areas, margin = np.array([area]), 0.3 if near else 0.12
    else:
        areas, margin = None, 0.12
    closeness = _CLOSENESS
    while True:
        drawn = areas if areas is not None else np.exp(rng.uniform(*np.log(_AREA), count))
        centres = rng.uniform(margin, 1 - margin, (count, 2))
        radii = np.sqrt(drawn / np.pi)
        distance = np.linalg.norm(centres[:, None] - centres, axis=2) + np.where(np.eye(count), np.inf, 0)
        if (distance > closeness * (radii[:, None] + radii)).all():
            break
        closeness *= 0.999
    return [
        {
            "x": float(x * size), "y": float(y * size), "area": float(area * size * size),
            "angle": float(rng.uniform(-0.25, 0.25)), "mirrored": bool(rng.random() < 0.5),
        }
        for (x, y), area in zip(centres, drawn, strict=True)
    ]  # fmt: skip


def _draw_part(rng: np.random.Generator) -> Part:
    x, y = rng.uniform(0.2, 0.8, 2)
    return Part(x=float(x), y=float(y), radius=float(rng.uniform(0.2, 0.45)), reach=float(rng.uniform(0.8, 1.6)))


def _draw_light(rng: np.random.Generator) -> Light:
    dx, dy = rng.uniform(-0.12, 0.12, 2)
    return Light(
        gain=float(rng.uniform(0.7, 1.2)), gamma=float(np.exp(rng.uniform(-0.3, 0.3))),
        tint=float(rng.uniform(0, 0.3)), feather=float(rng.uniform(0.3, 1.1)),
        shadow=float(rng.uniform(0.15, 0.5)) if rng.random() < 0.4 else 0.0, shadow_offset=(float(dx), float(dy)),
    )  # fmt: skip


def _draw_camera(rng: np.random.Generator, size: int, strength: float) -> Camera:
    return Camera(
        pan=rng.choice([-1.0, 1.0], 2) * rng.uniform(0.3, 1.0, 2) * 0.08 * size * strength,
        shake=float(rng.uniform(0.3, 1.0) * 0.012 * size * max(strength, 0.3)),
        zoom=float(rng.uniform(0.0, 0.12) * strength),
        periods=np.concatenate([rng.uniform(4, 10, 3), rng.uniform(0.35, 1.2, 1)]),
        phases=rng.uniform(0, 2 * np.pi, 5),
    )
