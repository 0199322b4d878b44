"""Motion of objects: a phase runs around the class's orbit at a speed proportional to the object's loudness.

So the speed matches the audio at every moment and is zero in silence, and an object at rest can stand at any point
of its orbit. A single image therefore does not distinguish a moving object from a still twin.
"""

from dataclasses import dataclass

import numpy as np

from ska_vct.synth.envelopes import CONTROL_RATE, Envelope

# Radius of an orbit as a share of the image's short side, and speed of the phase at full loudness.
AMPLITUDE_SHARE = 0.03
PHASE_SPEED = (8.0, 12.0)  # radians per second

# phase -> (dx, dy) in amplitudes, rotation in radians, logarithm of the size
ORBITS = {
    "sway": lambda p: (np.sin(p), 0.4 * np.cos(p), 0.06 * np.sin(p), 0 * p),
    "jolt": lambda p: (0.4 * np.cos(p), np.sin(p), 0 * p, 0.03 * np.sin(p)),
    "shiver": lambda p: (0.7 * np.sin(p) + 0.3 * np.cos(p), 0.7 * np.sin(p) - 0.3 * np.cos(p), 0 * p, 0 * p),
    "hop": lambda p: (0.5 * np.cos(p), np.sin(p), 0.08 * np.cos(p), 0 * p),
    "turn": lambda p: (0.5 * np.cos(p), 0.5 * np.sin(p), 0.2 * np.sin(p), 0 * p),
    "pulse": lambda p: (0.5 * np.cos(p), 0.6 * np.sin(p), 0 * p, 0.07 * np.sin(p)),
    "circle": lambda p: (np.cos(p), np.sin(p), 0 * p, 0 * p),
    "rattle": lambda p: (0.9 * np.sin(p), 0.5 * np.cos(p), 0.08 * np.cos(p), 0 * p),
}


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Motion of one object over a clip.

    Attributes:
        orbit: name in ``ORBITS``.
        amplitude: radius of the orbit, pixels.
        scale: factor on rotation and size changes (already included in the amplitude).
        phase: float64 (seconds * CONTROL_RATE,), radians; constant for a still object.
    """

    orbit: str
    amplitude: float
    scale: float
    phase: np.ndarray

    def pose(self, times: np.ndarray) -> np.ndarray:
        """dx, dy in pixels, rotation in radians and size factor at ``times`` (n,) in seconds: float64 (n, 4)."""
        phase = np.interp(times, np.arange(len(self.phase)) / CONTROL_RATE, self.phase)
        dx, dy, turn, grow = ORBITS[self.orbit](phase)
        return np.stack(
            [self.amplitude * dx, self.amplitude * dy, self.scale * turn, np.exp(self.scale * grow)], axis=1
        )


def draw_motion(
    rng: np.random.Generator, orbit: str, *, side: int, scale: float, envelope: Envelope | None, seconds: int
) -> Motion:
    """Draw an object's motion; all draws are made even for a still object, so that poses have one distribution.

    Args:
        side: short side of the image, pixels.
        scale: factor on the size of the motion; 1 by design.
        envelope: drives the motion; None for a still object.
        seconds: length of the clip.
    """
    start, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*PHASE_SPEED)
    phase = np.full(seconds * CONTROL_RATE, start)
    if envelope is not None:
        phase += speed / CONTROL_RATE * np.cumsum(envelope.values)
    return Motion(orbit=orbit, amplitude=AMPLITUDE_SHARE * side * scale, scale=scale, phase=phase)
