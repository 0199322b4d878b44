"""Camera motion compensation: what most of the image does together is taken out of the flow.

Each field's global motion is fitted as an affine map of the position (pan, zoom, rotation, shear) by iteratively
reweighted least squares with Geman and McClure's weights, whose scale is lowered from wide to the residuals' own
(Black and Anandan, "The Robust Estimation of Multiple Motions", CVIU 1996). It holds as long as no object covers
half of the image.

Shape legend
    F     fields
    P     cells the fit looks at
    h, w  resolution of the field
"""

import numpy as np

from ska_vct.data.flow.store import PIXELS_PER_SECOND, FlowError

CAMERAS = ("none", "affine", "affine_soft")
# Cells the fit looks at along a side; six numbers need no more.
_MAX_SIDE = 24
_STEPS = 12
# Geman-McClure's scale in robust standard deviations, and the most that it starts above that.
_WIDTH = 2.0
_START = 4.0
# Share of the field's mean magnitude below which a residual is not looked into.
_FLOOR = 0.02
# Fitted motion of this many median residuals is subtracted by half, if softly.
_NOISE = 2.0


def compensate_camera(flow: np.ndarray, camera: str, *, units: str = PIXELS_PER_SECOND) -> np.ndarray:
    """What ``INPUT.FLOW.CAMERA`` asks for.

    Args:
        flow: float (..., 2, h, w).
        camera: ``none`` leaves the flow as it is, ``affine`` is :func:`remove_camera_motion`, ``affine_soft`` the
            same with ``soft``.
        units: ``FlowRecord.meta.get("units")``, to refuse fields without direction.

    Raises:
        FlowError: the flow has no direction, or an unknown name.
    """
    if camera not in CAMERAS:
        raise FlowError(f"INPUT.FLOW.CAMERA is '{camera}'; choose one of {', '.join(CAMERAS)}.")
    if camera == "none":
        return flow
    if units != PIXELS_PER_SECOND:
        raise FlowError(
            f"The published flow files keep no direction, so INPUT.FLOW.CAMERA '{camera}' cannot be used with "
            "them; set it to none, or compute the flow with datasets/compute_flow.py."
        )
    return remove_camera_motion(flow, soft=camera == "affine_soft")


def remove_camera_motion(flow: np.ndarray, *, soft: bool = False) -> np.ndarray:
    """Subtract each field's global affine motion.

    Args:
        flow: float (..., 2, h, w), u right, v down, any unit.
        soft: subtract the share c^2 / (c^2 + r^2) of it, with c its mean speed and r twice the median speed that
            it leaves. What is fitted to a still camera's noise, and takes from objects that hardly move, stays.

    Returns:
        float32, same shape; a field without motion stays exactly zero.
    """
    flow = np.asarray(flow, dtype=np.float32)
    height, width = flow.shape[-2:]
    fields = flow.reshape(-1, 2, height, width)
    rows, columns = _places(height), _places(width)
    some = fields[:, :, _thinned(height)[:, None], _thinned(width)]
    y, x = np.meshgrid(rows[_thinned(height)], columns[_thinned(width)], indexing="ij")
    design = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    motion = fit_affine(design, some.reshape(len(fields), 2, -1).astype(np.float64)).astype(np.float32)
    x, y = columns[None, :].astype(np.float32), rows[:, None].astype(np.float32)
    across, down, shift = (motion[:, :, k, None, None] for k in range(3))
    fitted = across * x + down * y + shift
    if soft:
        fitted *= _significance(fitted, fields - fitted)[:, None, None, None]
    return (fields - fitted).reshape(flow.shape)


def _significance(fitted: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(F, 2, h, w) each -> (F,) in [0, 1)."""
    camera = np.linalg.norm(fitted, axis=1).mean(axis=(1, 2)) ** 2
    left = (_NOISE * np.median(np.linalg.norm(residual, axis=1), axis=(1, 2))) ** 2
    return camera / (camera + left + np.finfo(np.float32).tiny)


def fit_affine(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fit ``values`` robustly by ``design``; both components of a cell share its weight.

    Args:
        design: float64 (P, 3): x, y, 1.
        values: float64 (F, 2, P).

    Returns:
        float64 (F, 2, 3), coefficients of x, y and 1.
    """
    # The median pan, which an object pulls less than a mean, is where the fit starts.
    motion = np.zeros((len(values), 2, 3))
    motion[:, :, 2] = np.median(values, axis=2)
    floor = _FLOOR * np.linalg.norm(values, axis=1).mean(axis=1) + 1e-12
    # x x, x y, x, ... of every cell: the weighted sums of these are the normal equations' matrix.
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), 9)
    for step in range(_STEPS):
        residual = values - motion @ design.T
        squared = (residual**2).sum(axis=1)
        spread = np.sqrt(np.median(squared, axis=1) / (2 * np.log(2)))  # median of a Rayleigh distribution
        wide = 1 + (_START - 1) * max(0.0, 1 - 2 * step / _STEPS)
        scale = (_WIDTH * wide * np.maximum(spread, floor))[:, None]
        weights = (scale**2 / (scale**2 + squared)) ** 2
        matrix = (weights @ products).reshape(-1, 3, 3) + 1e-9 * np.eye(3)
        right = (weights[:, None] * values) @ design
        motion = np.linalg.solve(matrix, right.transpose(0, 2, 1)).transpose(0, 2, 1)
    return motion


def _places(count: int) -> np.ndarray:
    """Centres of ``count`` cells over the image, -1..1."""
    return (2 * np.arange(count) + 1) / count - 1


def _thinned(count: int) -> np.ndarray:
    """At most ``_MAX_SIDE`` evenly spread indices."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_SIDE)).round().astype(int))
