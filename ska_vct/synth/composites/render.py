"""Renders a composite to images, with ground truth; parts of ``ska_vct.synth.render``, for photographs.

Shape legend: N images of the video, T seconds, K objects, S steps per second, H, W image.
"""

import cv2
import numpy as np

from ska_vct.data.facts import SAMPLE_TIME
from ska_vct.synth.composites.library import Library
from ska_vct.synth.composites.scene import HEARD, Composite, Placed
from ska_vct.synth.render import Truth, mean_loudness, paste, pose_matrices

_MARGIN = 0.25  # of the background beyond the image, for the camera


class CompositeRenderer:
    """Draws one composite.

    Args:
        scene: the scene to draw.
        library: the sources of its split.
        fps: images per second.
    """

    def __init__(self, scene: Composite, library: Library, *, fps: int):
        self.scene, self.fps = scene, fps
        self.times = np.arange(scene.seconds * fps) / fps
        rng = np.random.default_rng(scene.style_seed)
        self._noise = rng.uniform(0, 3.5) if rng.random() < 0.7 else 0.0
        self._gains = 1 + rng.uniform(0, 0.004) * rng.standard_normal(len(self.times))
        self._rng = np.random.default_rng(rng.integers(2**31))
        self._background = _draw_background(rng, library.photograph(scene.background), scene.height)
        light = self._background.mean(axis=(0, 1))
        self._sprites = [_Sprite(item, library.sprite(item.source), light) for item in scene.objects]
        self._occluder = None
        if scene.occluder is not None:
            self._occluder = _draw_occluder(rng, library.sprite(scene.occluder), scene, light)

    def sampled(self) -> np.ndarray:
        """Index of the image that is sampled in each second, int64 (T,)."""
        return np.arange(self.scene.seconds) * self.fps + int(SAMPLE_TIME * self.fps)

    def frames(self) -> np.ndarray:
        """All images, uint8 (N, H, W, 3), RGB."""
        scene = self.scene
        cameras = self._cameras(self.times)
        poses = [self._poses(k, self.times, cameras) for k in range(len(self._sprites))]
        parts = [sprite.shifts(self.times) for sprite in self._sprites]
        frames = np.empty((len(self.times), scene.height, scene.width, 3), np.uint8)
        for n in range(len(self.times)):
            canvas = self._shown_background(cameras[n])
            for k, sprite in enumerate(self._sprites):
                sprite.draw(canvas, poses[k][n], parts[k][n])
            if self._occluder is not None:
                rgba, matrix = self._occluder
                paste(canvas, rgba, _combine(cameras[n], matrix))
            canvas *= self._gains[n]
            if self._noise:
                canvas += self._noise * self._rng.standard_normal(canvas.shape, np.float32)
            frames[n] = np.clip(np.rint(canvas), 0, 255)
        return frames

    def truth(self, *, steps: int) -> Truth:
        """Masks, sounds and motion of all objects; the true flow is not known here."""
        scene = self.scene
        times = self.times[self.sampled()]
        cameras = self._cameras(times)
        masks = np.zeros((scene.seconds, len(scene.objects), scene.height, scene.width), bool)
        for k, sprite in enumerate(self._sprites):
            poses, parts = self._poses(k, times, cameras), sprite.shifts(times)
            for t in range(scene.seconds):
                visible = _alpha(sprite.shown(parts[t]), poses[t], scene) > 0.5
                masks[t, :k, visible] = False
                masks[t, k] = visible
        if self._occluder is not None:
            rgba, matrix = self._occluder
            for t in range(scene.seconds):
                masks[t, :, _alpha(rgba, _combine(cameras[t], matrix), scene) > 0.5] = False
        loudness = np.stack([mean_loudness(item, scene.seconds, steps) for item in scene.objects], axis=2)
        return Truth(
            masks=masks,
            sounding=loudness.mean(axis=1) > HEARD,
            speed=np.stack([sprite.speed(scene.seconds, steps) for sprite in self._sprites], axis=2),
            loudness=loudness,
            flow=None,
        )

    def _cameras(self, times: np.ndarray) -> np.ndarray:
        """From the scene to the image, float64 (n, 2, 3)."""
        scene = self.scene
        if scene.camera is None:
            return np.tile(np.eye(3)[:2], (len(times), 1, 1))
        dx, dy, zoom = scene.camera.pose(times).T
        centre = scene.width / 2
        zero = np.zeros_like(zoom)
        rows = [[zoom, zero, centre * (1 - zoom) + dx], [zero, zoom, centre * (1 - zoom) + dy]]
        return np.array(rows).transpose(2, 0, 1)

    def _poses(self, k: int, times: np.ndarray, cameras: np.ndarray) -> np.ndarray:
        """From the pixels of a sprite to the image, float64 (n, 2, 3)."""
        sprite = self._sprites[k]
        matrices = sprite.poses(times)
        matrices[:, :, 2] -= matrices[:, :, :2].sum(axis=2) * (sprite.side - 1) / 2
        return np.stack([_combine(camera, matrix) for camera, matrix in zip(cameras, matrices, strict=True)])

    def _shown_background(self, camera: np.ndarray) -> np.ndarray:
        size = (self.scene.width, self.scene.height)
        margin = (self._background.shape[0] - self.scene.height) / 2
        matrix = _combine(camera, np.array([[1, 0, -margin], [0, 1, -margin]]))
        return cv2.warpAffine(
            self._background, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )


class _Sprite:
    """One object at the size at which it is shown."""

    def __init__(self, item: Placed, image: np.ndarray, light: np.ndarray):
        self.item = item
        self.rgba = _prepared(image, item, light)
        self.side = self.rgba.shape[0]
        self._grid, self._weight = None, None
        if item.part is not None:
            y, x = np.mgrid[: self.side, : self.side].astype(np.float32)
            centre = item.part.x * self.side, item.part.y * self.side
            distance = np.hypot(x - centre[0], y - centre[1]) / (item.part.radius * self.side)
            self._weight = np.exp(-((distance / 0.7) ** 4)).astype(np.float32)
            self._grid = x, y
        shadow = self.rgba.copy()
        shadow[..., :3] = 0
        self._shadow = cv2.GaussianBlur(shadow, (0, 0), max(self.side * 0.03, 0.8)) * item.light.shadow

    def poses(self, times: np.ndarray) -> np.ndarray:
        """From coordinates around the centre to the scene; a part's motion is not in them."""
        pose = self.item.motion.pose(times)
        if self.item.part is not None:
            pose = np.tile(self.item.motion.pose(np.zeros(1)), (len(times), 1))
        return pose_matrices(self.item, pose)

    def shifts(self, times: np.ndarray) -> np.ndarray:
        """Displacement of the moving part in pixels of the sprite, float64 (n, 2); zero without one."""
        if self.item.part is None:
            return np.zeros((len(times), 2))
        pose = self.item.motion.pose(times)
        return (pose[:, :2] - self.item.motion.pose(np.zeros(1))[:, :2]) * self.item.part.reach

    def shown(self, shift: np.ndarray) -> np.ndarray:
        """The sprite with its part displaced."""
        if self._grid is None or not shift.any():
            return self.rgba
        x, y = self._grid
        dx, dy = np.float32(shift)
        return cv2.remap(self.rgba, x - dx * self._weight, y - dy * self._weight, cv2.INTER_LINEAR)

    def draw(self, canvas: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> None:
        if self.item.light.shadow:
            moved = matrix.copy()
            moved[:, 2] += np.array(self.item.light.shadow_offset) * self.side
            paste(canvas, self._shadow, moved)
        paste(canvas, self.shown(shift), matrix)

    def speed(self, seconds: int, steps: int) -> np.ndarray:
        """Mean speed without camera over each step, pixels per second, float32 (T, S)."""
        borders = np.arange(seconds * steps * 4 + 1) / (steps * 4)
        half = 0.35 * self.side
        corners = np.array([[-half, half, -half, half], [-half, -half, half, half], [1, 1, 1, 1]])
        path = np.linalg.norm(np.diff(self.poses(borders) @ corners, axis=0), axis=1).mean(axis=1)
        if self._weight is not None:
            share = float((self._weight * self.rgba[..., 3]).sum() / max(self.rgba[..., 3].sum(), 1e-6))
            path = path + share * np.linalg.norm(np.diff(self.shifts(borders), axis=0), axis=1)
        return (path.reshape(seconds, steps, 4).sum(axis=2) * steps).astype(np.float32)


def _prepared(image: np.ndarray, item: Placed, light: np.ndarray) -> np.ndarray:
    """The cut-out scaled, lit and with soft edges: square, float32 (s, s, 4), colours multiplied by alpha."""
    rgba = image.astype(np.float32)
    alpha = rgba[..., 3:] / 255
    scale = float(np.sqrt(item.area / max(float((alpha > 0.5).sum()), 1.0)))
    colours = 255 * (rgba[..., :3] / 255) ** item.light.gamma * item.light.gain
    tinted = colours * (light / max(float(light.mean()), 1.0))
    colours = np.clip(colours + item.light.tint * (tinted - colours), 0, 255)
    rgba = np.concatenate([colours * alpha, alpha], axis=2)
    size = [max(4, round(length * scale)) for length in rgba.shape[1::-1]]
    rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    height, width = rgba.shape[:2]
    side = max(height, width) + 8
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 4), np.float32)
    square[top : top + height, left : left + width] = rgba
    return cv2.GaussianBlur(square, (0, 0), item.light.feather)


def _draw_background(rng: np.random.Generator, photograph: np.ndarray, size: int) -> np.ndarray:
    """A crop of the photograph with margins, float32 (s, s, 3), 0..255."""
    side = round(size * (1 + 2 * _MARGIN))
    crop = rng.uniform(0.5, 1.0) * min(photograph.shape[:2])
    top, left = (rng.uniform(0, length - crop) for length in photograph.shape[:2])
    scale = crop / side
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    if rng.random() < 0.5:
        matrix[0] = -scale, 0, left + crop - 1
    if scale > 1.5:
        photograph = cv2.blur(photograph, (round(scale), round(scale)))
    image = cv2.warpAffine(
        photograph,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.float32)
    image = 255 * (image / 255) ** np.exp(rng.uniform(-0.3, 0.3)) * rng.uniform(0.7, 1.15)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5))
    return np.clip(image, 0, 255).astype(np.float32)


def _draw_occluder(
    rng: np.random.Generator, image: np.ndarray, scene: Composite, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Something near the border of the image, out of focus: sprite and matrix."""
    item = scene.objects[0]
    x, y = rng.uniform(0, 1, 2)
    side = rng.integers(4)
    x, y = ((0.02, y), (0.98, y), (x, 0.02), (x, 0.98))[side]
    placed = Placed(**{
        **{name: getattr(item, name) for name in item.__dataclass_fields__},
        "area": float(rng.uniform(0.05, 0.2) * scene.height * scene.width), "x": x * scene.width,
        "y": y * scene.height, "angle": float(rng.uniform(-0.5, 0.5)), "mirrored": bool(rng.random() < 0.5),
    })  # fmt: skip
    rgba = cv2.GaussianBlur(_prepared(image, placed, light), (0, 0), rng.uniform(0.6, 2.0))
    matrix = pose_matrices(placed, np.array([[0.0, 0.0, 0.0, 1.0]]))[0]
    matrix[:, 2] -= matrix[:, :2].sum(axis=1) * (rgba.shape[0] - 1) / 2
    return rgba, matrix


def _alpha(rgba: np.ndarray, matrix: np.ndarray, scene: Composite) -> np.ndarray:
    canvas = np.zeros((scene.height, scene.width, 4), np.float32)
    paste(canvas, rgba, matrix)
    return canvas[..., 3]


def _combine(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Affine 2 x 3 matrices: first ``inner``, then ``outer``."""
    combined = outer[:, :2] @ inner
    combined[:, 2] += outer[:, 2]
    return combined
