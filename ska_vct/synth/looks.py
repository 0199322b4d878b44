"""Appearance of objects: a silhouette, a texture and a family of colours, drawn as a small sprite.

Canonical coordinates: the silhouette lies within [-1, 1] x [-1, 1], x right, y down.
"""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from ska_vct.synth.classes import NUM_VARIANTS, ObjectClass

_CANVAS = 192
_SPAN = 2.3  # canonical width of the canvas: a little more than the silhouette
# Variants of a look differ in hue (degrees) and in the size of their texture; the held-out ones are the last two.
_VARIANT_HUES = (-14, 10, -5, 16, 2, -9, 6, -18)
_VARIANT_SCALES = (0.8, 1.2, 1.0, 0.9, 1.3, 1.1, 0.7, 1.4)


@dataclass(frozen=True, kw_only=True)
class Look:
    """The appearance that two objects of the same look share.

    Attributes:
        shape, texture: names in ``SHAPES`` and ``TEXTURES``.
        body, detail: RGB, 0..255.
        angle: direction of the texture, radians.
        scale: size of the texture, about 1.
        seed: of the texture's random parts.
    """

    shape: str
    texture: str
    body: tuple[float, float, float]
    detail: tuple[float, float, float]
    angle: float
    scale: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One drawn object.

    Attributes:
        rgba: float32 (h, w, 4), colours 0..255 multiplied by alpha, alpha 0..1.
        area: pixels that its silhouette covers at size factor 1.
    """

    rgba: np.ndarray
    area: float


def draw_look(rng: np.random.Generator, object_class: ObjectClass, variant: int) -> Look:
    """Draw a look of a class; colours overlap so that a single pixel does not reveal the class."""
    hue = object_class.hue + _VARIANT_HUES[variant % NUM_VARIANTS] + rng.normal(0, 12)
    return Look(
        shape=object_class.shape,
        texture=object_class.texture,
        body=_rgb(hue, rng.uniform(0.45, 0.9), rng.uniform(0.55, 0.95)),
        detail=_rgb(hue + rng.normal(0, 25), rng.uniform(0.3, 0.9), rng.uniform(0.15, 0.4)),
        angle=rng.uniform(-0.4, 0.4),
        scale=_VARIANT_SCALES[variant % NUM_VARIANTS] * rng.uniform(0.9, 1.1),
        seed=int(rng.integers(2**31)),
    )


def draw_sprite(look: Look, area: float) -> Sprite:
    """Draw ``look`` so that its silhouette covers ``area`` pixels."""
    alpha = np.zeros((_CANVAS, _CANVAS), np.uint8)
    SHAPES[look.shape](alpha)
    grid = (np.arange(_CANVAS) + 0.5) / _CANVAS * _SPAN - _SPAN / 2
    x, y = np.meshgrid(grid, grid)
    cos, sin = np.cos(look.angle), np.sin(look.angle)
    pattern = TEXTURES[look.texture](
        (cos * x + sin * y) / look.scale, (cos * y - sin * x) / look.scale, np.random.default_rng(look.seed)
    )
    color = np.asarray(look.body) * (1 - pattern[..., None]) + np.asarray(look.detail) * pattern[..., None]
    # A dark rim, as most real objects have against their background.
    rim = cv2.erode(alpha, np.ones((9, 9), np.uint8))
    color = np.where(rim[..., None] > 0, color, 0.45 * color)
    share = np.concatenate([color, np.ones_like(color[..., :1])], axis=2) * (alpha[..., None] / 255.0)
    side = max(8, round(_CANVAS * float(np.sqrt(area / (share[..., 3].sum())))))
    rgba = cv2.resize(share.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    # The side is rounded, so report the area that is actually drawn.
    rgba = cv2.copyMakeBorder(rgba, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    return Sprite(rgba=rgba, area=float(rgba[..., 3].sum()))


def _rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    return tuple(255 * channel for channel in colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value))


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round((x / _SPAN + 0.5) * _CANVAS), round((y / _SPAN + 0.5) * _CANVAS)


def _length(length: float) -> int:
    return round(length / _SPAN * _CANVAS)


def _disc(canvas: np.ndarray, x: float, y: float, radius_x: float, radius_y: float | None = None) -> None:
    axes = (_length(radius_x), _length(radius_x if radius_y is None else radius_y))
    cv2.ellipse(canvas, _pixel(x, y), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)


def _polygon(canvas: np.ndarray, *points: tuple[float, float]) -> None:
    cv2.fillPoly(canvas, [np.array([_pixel(*point) for point in points], np.int32)], 255, cv2.LINE_AA)


def _box(canvas: np.ndarray, left: float, top: float, right: float, bottom: float) -> None:
    _polygon(canvas, (left, top), (right, top), (right, bottom), (left, bottom))


def _figure_eight(canvas):
    _disc(canvas, 0, 0.45, 0.6, 0.52)
    _disc(canvas, 0, -0.25, 0.45, 0.42)
    _box(canvas, -0.12, -1.0, 0.12, 0.0)


def _drum(canvas):
    _disc(canvas, 0, 0, 0.9)


def _trapezoid(canvas):
    _polygon(canvas, (-1.0, 0.6), (-0.55, -0.6), (0.55, -0.6), (1.0, 0.6))


def _dog_head(canvas):
    _disc(canvas, 0, 0.1, 0.6, 0.75)
    _disc(canvas, -0.68, 0.0, 0.25, 0.6)
    _disc(canvas, 0.68, 0.0, 0.25, 0.6)


def _van(canvas):
    _box(canvas, -1.0, -0.45, 0.55, 0.4)
    _polygon(canvas, (0.5, -0.15), (0.8, -0.15), (1.0, 0.1), (1.0, 0.4), (0.5, 0.4))
    _disc(canvas, -0.55, 0.42, 0.22)
    _disc(canvas, 0.55, 0.42, 0.22)
    _box(canvas, -0.3, -0.65, 0.0, -0.4)


def _rotor(canvas):
    _box(canvas, -1.0, -0.22, 1.0, 0.22)
    _box(canvas, -0.22, -1.0, 0.22, 1.0)
    _disc(canvas, 0, 0, 0.45)


def _cat_head(canvas):
    _disc(canvas, 0, 0.2, 0.75, 0.65)
    _polygon(canvas, (-0.75, 0.1), (-0.7, -0.95), (-0.05, -0.35))
    _polygon(canvas, (0.75, 0.1), (0.7, -0.95), (0.05, -0.35))


def _cog(canvas):
    angles = np.arange(24) * 2 * np.pi / 24
    radii = np.where(np.arange(24) % 4 < 2, 1.0, 0.68)
    _polygon(canvas, *zip(radii * np.cos(angles), radii * np.sin(angles), strict=True))


SHAPES = {
    "figure_eight": _figure_eight,
    "drum": _drum,
    "trapezoid": _trapezoid,
    "dog_head": _dog_head,
    "van": _van,
    "rotor": _rotor,
    "cat_head": _cat_head,
    "cog": _cog,
}


def _wave(phase: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 1.5 * np.sin(phase), 0, 1)


def _noise(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blots = cv2.resize(rng.random((9, 9)), x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(2.5 * (blots - 0.3), 0, 1)


def _spots(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pattern = np.zeros_like(x)
    for centre_x, centre_y in rng.uniform(-1, 1, (9, 2)):
        pattern = np.maximum(pattern, np.hypot(x - centre_x, y - centre_y) < 0.2)
    return pattern


# (x, y, rng) -> share of the detail colour, 0..1, on the whole canvas
TEXTURES = {
    "stripes": lambda x, y, rng: _wave(11 * x + 5 * y),
    "rings": lambda x, y, rng: _wave(12 * np.hypot(x, y) + 1.5),
    "bars": lambda x, y, rng: _wave(14 * x),
    "checks": lambda x, y, rng: (np.sin(8 * x) * np.sin(8 * y) > 0).astype(float),
    "spots": _spots,
    "noise": _noise,
}
