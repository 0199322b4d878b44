"""Draws a clip's content: locations, motion and sounds of its objects.

The order of draws matters. All locations and sizes are drawn together, and a layout that does not fit is rejected
as a whole; only then are roles assigned at random, and the drawing order after that. So size, location and overlap
reveal nothing about the role.
"""

from dataclasses import dataclass

import numpy as np

from ska_vct.synth.classes import CLASSES, ObjectClass
from ska_vct.synth.envelopes import Envelope, draw_envelope, draw_unrelated_envelope
from ska_vct.synth.kinds import SceneOptions
from ska_vct.synth.looks import Look, draw_look
from ska_vct.synth.motion import AMPLITUDE_SHARE, Motion, draw_motion

# Share of the image that an object covers.
AREA_SHARE = (0.04, 0.14)
_WEAK_MOTION = 0.3
_CAMERA_SWAY = 0.05  # pan to either side at strength 1, as a share of the short side
_CAMERA_SHAKE = 0.006


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object: its location, appearance and activity.

    Attributes:
        role: of ``ROLES``.
        x, y: rest position, pixels.
        area: pixels that its silhouette covers.
        angle: rotation at rest, radians.
        envelope: drives its motion and, if its role is sounding, its sound; None for a still object.
    """

    object_class: ObjectClass
    role: str
    look: Look
    x: float
    y: float
    area: float
    angle: float
    mirrored: bool
    motion: Motion
    envelope: Envelope | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One sound, of an object in view or out of view (``visible`` False)."""

    object_class: ObjectClass
    timbre_variant: int
    envelope: Envelope
    visible: bool


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip before it is drawn; ``objects`` are in drawing order, the last one in front."""

    kind: str
    seconds: int
    height: int
    width: int
    objects: tuple[SceneObject, ...]
    sources: tuple[Source, ...]
    camera: "Camera | None"
    background_seed: int
    sound_seed: int


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A slow pan and a small shake; the image content moves by ``offset``."""

    pan: np.ndarray  # (2,) amplitude in pixels
    shake: np.ndarray  # (2,)
    periods: np.ndarray  # (2, 2) seconds: pan, shake
    phases: np.ndarray  # (2, 2)

    @property
    def reach(self) -> float:
        """Largest displacement, pixels."""
        return float((np.abs(self.pan) + np.abs(self.shake)).max())

    def offset(self, times: np.ndarray) -> np.ndarray:
        """Shift of the image content at ``times`` (n,): float64 (n, 2), x and y in pixels."""
        angle = 2 * np.pi * np.asarray(times)[:, None, None] / self.periods + self.phases
        return self.pan * np.sin(angle[:, 0]) + self.shake * np.sin(angle[:, 1])


def draw_scene(
    rng: np.random.Generator, kind: str, options: SceneOptions, *, seconds: int, height: int, width: int
) -> Scene:
    """Draw a clip of ``kind`` (a key of ``SCENE_KINDS``)."""
    side = min(height, width)
    scale = options.motion_scale * (_WEAK_MOTION if kind == "weak" else 1.0)
    camera = _draw_camera(rng, side, options.camera) if kind == "camera" else None
    roles = _draw_roles(rng, kind, options)
    classes = _draw_classes(rng, kind, roles)
    reach = AMPLITUDE_SHARE * side * options.motion_scale + (camera.reach if camera else 0)
    locations = _draw_layout(rng, len(roles), height, width, reach)
    lot = rng.permutation(len(roles))  # assigns locations to roles
    look_variant, timbre_variant = rng.choice(options.looks), rng.choice(options.timbres)

    objects, sources, looks = [], [], {}
    for number, (role, object_class) in enumerate(zip(roles, classes, strict=False)):
        envelope = None
        if role == "sounding":
            envelope = draw_envelope(rng, object_class.events, draw_active(rng, seconds, options.rest))
            source = Source(
                object_class=object_class, timbre_variant=int(timbre_variant), envelope=envelope, visible=True
            )
            sources.append(source)
        elif role == "mover":
            # It rests as often as sounding objects; otherwise standing still for a second would reveal it.
            active = draw_active(rng, seconds, options.rest)
            envelope = draw_unrelated_envelope(rng, object_class.events, active, sources[0].envelope)
        # Objects of one class in one clip share their look, so only their activity distinguishes them.
        if object_class not in looks:
            looks[object_class] = draw_look(rng, object_class, int(look_variant))
        look = looks[object_class]
        location = locations[lot[number]]
        motion = draw_motion(rng, object_class.orbit, side=side, scale=scale, envelope=envelope, seconds=seconds)
        objects.append(
            SceneObject(
                object_class=object_class, role=role, look=look, motion=motion, envelope=envelope, **location
            )
        )
    if kind == "offscreen":
        envelope = draw_envelope(rng, classes[-1].events, np.ones(seconds, dtype=bool))
        sources.append(
            Source(object_class=classes[-1], timbre_variant=int(timbre_variant), envelope=envelope, visible=False)
        )
    order = rng.permutation(len(objects))
    return Scene(
        kind=kind, seconds=seconds, height=height, width=width, camera=camera, sources=tuple(sources),
        objects=tuple(objects[index] for index in order),
        background_seed=int(rng.integers(2**31)), sound_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _draw_roles(rng: np.random.Generator, kind: str, options: SceneOptions) -> list[str]:
    if kind in ("twin", "mover"):
        return ["sounding", kind]
    second, both = rng.random() < options.second_object, rng.random() < options.both_sound
    if kind == "offscreen":
        return ["still", "still"] if second else ["still"]
    if not second:
        return ["sounding"]
    return ["sounding", "sounding" if both and options.multi else "still"]


def _draw_classes(rng: np.random.Generator, kind: str, roles: list[str]) -> list[ObjectClass]:
    """A class per role, and a further, different class for the off-screen sound."""
    different = [CLASSES[index] for index in rng.permutation(len(CLASSES))[: len(roles) + 1]]
    if kind == "twin" or (kind == "mover" and rng.random() < 0.5):
        return [different[0], different[0]]
    return different if kind == "offscreen" else different[: len(roles)]


def _draw_layout(rng: np.random.Generator, count: int, height: int, width: int, reach: float) -> list[dict]:
    """Locations, sizes and rotations of all objects at once; a layout that does not fit is rejected as a whole.

    The limits are relaxed slowly, so that the search ends in small or crowded images too.
    """
    closeness = 1.15
    while True:
        area = np.exp(rng.uniform(*np.log(AREA_SHARE), count)) * height * width
        radius = np.sqrt(area / np.pi)
        centre = np.stack([rng.uniform(0, width, count), rng.uniform(0, height, count)], axis=1)
        angle, mirrored = rng.uniform(-0.25, 0.25, count), rng.random(count) < 0.5
        margin = (radius * min(closeness, 1.15) + reach)[:, None]
        inside = (centre > margin).all() and (centre < np.array([width, height]) - margin).all()
        distance = np.linalg.norm(centre[:, None] - centre, axis=2) + np.where(np.eye(count), np.inf, 0)
        if inside and (distance > closeness * (radius[:, None] + radius)).all():
            break
        closeness *= 0.9995
    return [
        {"x": float(x), "y": float(y), "area": float(a), "angle": float(t), "mirrored": bool(m)}
        for (x, y), a, t, m in zip(centre, area, angle, mirrored, strict=True)
    ]


def draw_active(rng: np.random.Generator, seconds: int, rest: float) -> np.ndarray:
    """Seconds in which an object is active, bool (seconds,); at most two consecutive ones are not."""
    active = np.ones(seconds, dtype=bool)
    length, start = int(rng.integers(1, 3)), int(rng.integers(0, seconds))
    if rng.random() < rest:
        active[start : start + length] = False
    return active


def _draw_camera(rng: np.random.Generator, side: int, strength: float) -> Camera:
    signs = rng.choice([-1.0, 1.0], size=2)
    return Camera(
        pan=signs * rng.uniform(0.4, 1.0, 2) * _CAMERA_SWAY * side * strength,
        shake=rng.uniform(0.4, 1.0, 2) * _CAMERA_SHAKE * side * strength,
        periods=np.stack([rng.uniform(6, 10, 2), rng.uniform(0.4, 0.9, 2)]),
        phases=rng.uniform(0, 2 * np.pi, (2, 2)),
    )
