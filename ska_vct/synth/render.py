"""Renders a scene to images and audio, with ground truth for both.

Shape legend
    N     images of the video
    T     seconds, and sampled frames
    K     objects, in drawing order
    S     steps per second of the truth
    H, W  image, pixels
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ska_vct.data.facts import sample_time
from ska_vct.synth.envelopes import CONTROL_RATE
from ska_vct.synth.looks import draw_sprite
from ska_vct.synth.scene import Scene, SceneObject
from ska_vct.synth.timbres import draw_sound

# Time over which speeds are measured for the truth, seconds.
_MOMENT = 0.01


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Facts about a clip beyond its release.

    Attributes:
        masks: bool (T, K, H, W), visible part of every object in the sampled frames.
        sounding: bool (T, K), whether an object sounds in a second.
        speed: float32 (T, S, K), mean speed of an object's pixels without camera motion, pixels per second, over
            each step.
        loudness: float32 (T, S, K), mean envelope of sounding objects; zero for silent ones.
        flow: float32 (T, 2, H, W), true flow at the sampled frames, camera included, pixels per second.
    """

    masks: np.ndarray
    sounding: np.ndarray
    speed: np.ndarray
    loudness: np.ndarray
    flow: np.ndarray


class Renderer:
    """Draws one scene.

    Args:
        scene: the scene to draw.
        fps: images per second, an integer.
        flicker: relative standard deviation of the brightness between images.
    """

    def __init__(self, scene: Scene, *, fps: int, flicker: float):
        self.scene = scene
        self.fps = fps
        self.times = np.arange(scene.seconds * fps) / fps
        rng = np.random.default_rng(scene.background_seed)
        self._gain = 1 + flicker * rng.standard_normal(len(self.times))
        self._margin = int(np.ceil(scene.camera.reach)) + 2 if scene.camera else 0
        self._background = _draw_background(rng, scene.height + 2 * self._margin, scene.width + 2 * self._margin)
        self._sprites = [draw_sprite(item.look, item.area) for item in scene.objects]

    def sampled(self) -> np.ndarray:
        """Index of the image that is sampled in each second, int64 (T,)."""
        return (sample_time(np.arange(self.scene.seconds)) * self.fps).astype(int)

    def frames(self) -> np.ndarray:
        """All images, uint8 (N, H, W, 3), RGB."""
        shifts, positions = (
            self._shifts(self.times),
            [self._transforms(k, self.times) for k in range(len(self._sprites))],
        )
        frames = np.empty((len(self.times), self.scene.height, self.scene.width, 3), np.uint8)
        for n in range(len(self.times)):
            canvas = self._shifted_background(shifts[n])
            for sprite, transforms in zip(self._sprites, positions, strict=True):
                _paste(canvas, sprite.rgba, transforms[n])
            frames[n] = np.clip(np.rint(canvas * self._gain[n]), 0, 255)
        return frames

    def truth(self, *, steps: int) -> Truth:
        """Masks, sounds and motion of all objects; ``steps`` is S."""
        scene = self.scene
        times = self.times[self.sampled()]
        masks = np.zeros((scene.seconds, len(scene.objects), scene.height, scene.width), bool)
        camera = (self._shifts(times + _MOMENT) - self._shifts(times - _MOMENT)) / (2 * _MOMENT)
        flow = np.broadcast_to(camera[:, :, None, None], (scene.seconds, 2, scene.height, scene.width)).copy()
        y, x = np.mgrid[: scene.height, : scene.width] + 0.0
        for k in range(len(self._sprites)):
            before, now, after = (self._transforms(k, times + delta) for delta in (-_MOMENT, 0, _MOMENT))
            for t in range(scene.seconds):
                visible = self._visible(k, now[t])
                masks[t, :k, visible] = False
                masks[t, k] = visible
                velocity = (after[t] - before[t]) / (2 * _MOMENT) @ _inverse(now[t])
                moved = velocity @ np.stack([x[visible], y[visible], np.ones(visible.sum())])
                flow[t][:, visible] = moved
        return Truth(
            masks=masks,
            sounding=np.stack([_sounding(item, scene.seconds) for item in scene.objects], axis=1),
            speed=self._speed(steps),
            loudness=np.stack([_loudness(item, scene.seconds, steps) for item in scene.objects], axis=2),
            flow=flow.astype(np.float32),
        )

    def displacements(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """True flow between two images: displacements of everything seen from one time to another, with camera.

        Args:
            first: (n,), seconds; the fields refer to the pixels at these times.
            second: (n,), seconds, later or earlier.

        Returns:
            float32 (n, 2, H, W), pixels, also for what moves out of view or becomes occluded.
        """
        scene = self.scene
        camera = self._shifts(second) - self._shifts(first)
        flow = np.broadcast_to(camera[:, :, None, None], (len(first), 2, scene.height, scene.width)).copy()
        y, x = np.mgrid[: scene.height, : scene.width] + 0.0
        for k in range(len(self._sprites)):
            starts, ends = self._transforms(k, first), self._transforms(k, second)
            for field, start, end in zip(flow, starts, ends, strict=True):
                visible = self._visible(k, start)
                positions = np.stack([x[visible], y[visible], np.ones(visible.sum())])
                field[:, visible] = (end - start) @ _inverse(start) @ positions
        return flow.astype(np.float32)

    def _visible(self, k: int, transform: np.ndarray) -> np.ndarray:
        """Where sprite ``k`` would be visible without occlusion, bool (H, W)."""
        alpha = np.zeros((self.scene.height, self.scene.width, 4), np.float32)
        _paste(alpha, self._sprites[k].rgba, transform)
        return alpha[..., 3] > 0.5

    def _speed(self, steps: int) -> np.ndarray:
        """Mean speed of each sprite's pixels over each step, (T, S, K)."""
        borders = np.arange(self.scene.seconds * steps * 4 + 1) / (steps * 4)
        speeds = []
        for item, sprite in zip(self.scene.objects, self._sprites, strict=True):
            half = 0.35 * sprite.rgba.shape[0]
            corners = np.array([[-half, half, -half, half], [-half, -half, half, half], [1, 1, 1, 1]])
            points = _pose_matrices(item, item.motion.pose(borders)) @ corners
            path = np.linalg.norm(np.diff(points, axis=0), axis=1).mean(axis=1)
            speeds.append(path.reshape(self.scene.seconds, steps, 4).sum(axis=2) * steps)
        return np.stack(speeds, axis=2).astype(np.float32)

    def _shifts(self, times: np.ndarray) -> np.ndarray:
        camera = self.scene.camera
        return camera.offset(times) if camera else np.zeros((len(times), 2))

    def _transforms(self, k: int, times: np.ndarray) -> np.ndarray:
        """From sprite pixels to image pixels, float64 (n, 2, 3)."""
        item, sprite = self.scene.objects[k], self._sprites[k]
        matrices = _pose_matrices(item, item.motion.pose(times))
        centre = (sprite.rgba.shape[0] - 1) / 2
        matrices[:, :, 2] += self._shifts(times) - matrices[:, :, :2].sum(axis=2) * centre
        return matrices

    def _shifted_background(self, shift: np.ndarray) -> np.ndarray:
        size = (self.scene.width, self.scene.height)
        if self.scene.camera is None:
            return self._background.copy()
        matrix = np.array([[1, 0, shift[0] - self._margin], [0, 1, shift[1] - self._margin]])
        return cv2.warpAffine(self._background, matrix, size, flags=cv2.INTER_LINEAR)


def draw_soundtrack(scene: Scene, *, rate: int, channels: int, hiss: float) -> np.ndarray:
    """The clip's audio.

    Args:
        rate: samples per second.
        channels: 1 or 2; sounds are panned at random in stereo.
        hiss: root mean square of the background noise, as a share of full scale.

    Returns:
        int16 (seconds * rate, channels).
    """
    rng = np.random.default_rng(scene.sound_seed)
    mix = hiss * rng.standard_normal((scene.seconds * rate, channels))
    for source in scene.sources:
        sound = draw_sound(rng, source.object_class.timbre, source.timbre_variant, source.envelope, rate=rate)
        pan = rng.uniform(0.3, 0.7)
        mix += sound[:, None] * (np.array([2 * pan, 2 - 2 * pan]) if channels == 2 else 1.0)
    return np.rint(np.clip(mix, -1, 1) * 32767).astype(np.int16)


def _pose_matrices(item: SceneObject, pose: np.ndarray) -> np.ndarray:
    """From coordinates around the object's centre to image pixels, without camera, float64 (n, 2, 3)."""
    angle, grow = item.angle + pose[:, 2], pose[:, 3]
    cos, sin = grow * np.cos(angle), grow * np.sin(angle)
    flip = -1.0 if item.mirrored else 1.0
    rows = [[flip * cos, -sin, item.x + pose[:, 0]], [flip * sin, cos, item.y + pose[:, 1]]]
    return np.array(rows).transpose(2, 0, 1)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of an affine 2 x 3 matrix as 3 x 3."""
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))


def _paste(canvas: np.ndarray, rgba: np.ndarray, matrix: np.ndarray) -> None:
    """Blend a sprite over ``canvas`` (H, W, 3), or another sprite (H, W, 4), in place and only near the sprite."""
    height, width = canvas.shape[:2]
    side = rgba.shape[0]
    corners = matrix @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, [width, height])
    if right <= left or bottom <= top:
        return
    local = matrix - np.array([[0, 0, left], [0, 0, top]])
    drawn = cv2.warpAffine(rgba, local, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    region = canvas[top:bottom, left:right]
    region *= 1 - drawn[..., 3:]
    region += drawn[..., : canvas.shape[2]]


def _sounding(item: SceneObject, seconds: int) -> np.ndarray:
    return item.envelope.active if item.role == "sounding" else np.zeros(seconds, dtype=bool)


def _loudness(item: SceneObject, seconds: int, steps: int) -> np.ndarray:
    """Mean envelope over each step, (T, S); zero for silent objects."""
    if item.role != "sounding":
        return np.zeros((seconds, steps), np.float32)
    # Sums between step boundaries, which need not coincide with control steps.
    total = np.concatenate([[0], np.cumsum(item.envelope.values)])
    borders = np.arange(seconds * steps + 1) / steps * CONTROL_RATE
    means = np.diff(np.interp(borders, np.arange(len(total)), total)) * steps / CONTROL_RATE
    return means.reshape(seconds, steps).astype(np.float32)


def _draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cloudy texture of two colours with finer grain on top, float32 (H, W, 3), 0..255."""
    clouds = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 1.0), (7, 0.6), (19, 0.45)):
        grid = rng.random((cells, cells)).astype(np.float32)
        clouds += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    clouds = (clouds - clouds.min()) / (clouds.max() - clouds.min())
    dark, light = rng.uniform(20, 120, 3), rng.uniform(90, 210, 3)
    image = dark + (light - dark) * clouds[..., None] + rng.normal(0, 5, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.float32)
