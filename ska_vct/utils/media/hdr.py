"""HDR frames as SDR screens show them: from PQ or HLG with BT.2020's primaries to BT.709's with gamma 2.4.

FFmpeg's filters for this need a library that PyAV's builds lack. Sources: transfer functions, ITU-R BT.2100-2;
white at 203 cd/m2, ITU-R BT.2408; matrix, ITU-R BT.2407; the curve that rolls highlights off, FFmpeg's
tonemap=mobius.
"""

from functools import cache

import av
import cv2
import numpy as np
from av.video.reformatter import ColorTrc

PQ, HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)
# cd/m2; brighter light is white.
_WHITE, _PEAK = 203.0, 1000.0
# Share of white below which light stays as it is.
_KNEE = 0.3
_BITS = 12
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame's values are those of an HDR transfer function."""
    return frame.color_trc in (PQ, HLG)


def to_sdr(image: np.ndarray, transfer: int) -> np.ndarray:
    """Tone-map an image.

    Args:
        image: uint16 (H, W, 3), R'G'B' of BT.2020.
        transfer: ``PQ`` or ``HLG``.

    Returns:
        uint8 (H, W, 3), R'G'B' of BT.709.
    """
    light = _light(transfer)[image >> (16 - _BITS)]
    if transfer == HLG:
        # From the scene to a screen of 1000 cd/m2, whose system gamma is 1.2.
        light *= (_PEAK / _WHITE) * np.power(cv2.transform(light, _LUMINANCE), 0.2)[..., None]
    light = np.maximum(cv2.transform(light, _TO_BT709), 0)
    # All three alike, so that hues stay.
    largest = np.clip(light.max(2), 1e-6, _PEAK / _WHITE)
    light *= (_roll_off(largest) / largest)[..., None]
    return _gamma()[(np.sqrt(np.minimum(light, 1)) * ((1 << _BITS) - 1)).astype(np.uint16)]


def _roll_off(light: np.ndarray) -> np.ndarray:
    """From 0 to the peak, in units of white, to 0 to 1: straight below the knee, then ever flatter."""
    peak = _PEAK / _WHITE
    a = -(_KNEE**2) * (peak - 1) / (_KNEE**2 - 2 * _KNEE + peak)
    b = (_KNEE**2 - 2 * _KNEE * peak + peak) / (peak - 1)
    curve = (b**2 + 2 * b * _KNEE + _KNEE**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= _KNEE, light, curve).astype(np.float32)


@cache
def _light(transfer: int) -> np.ndarray:
    """Light of each signal value, float32: of PQ in units of white, of HLG the scene's, 0 to 1."""
    signal = np.linspace(0, 1, 1 << _BITS)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    root = signal ** (32 / 2523)
    share = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return (10_000 / _WHITE * share ** (8192 / 1305)).astype(np.float32)


@cache
def _gamma() -> np.ndarray:
    """Values of 8 bits for roots of light, which tell dark ones apart."""
    return np.rint(255 * np.linspace(0, 1, 1 << _BITS) ** (2 / 2.4)).astype(np.uint8)
