"""Audio that goes with nothing in view: silence, white noise, or the audio of a clip of other classes.

Made as waveforms, so that they go through the same front end as a clip's own and cannot be told by its statistics.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from ska_vct.data.audio.files import ClipAudio, load_audio, samples_to_audio
from ska_vct.data.audio.log_mel import SAMPLE_RATE
from ska_vct.data.audio.names import NOISE_LEVEL
from ska_vct.utils.errors import InputError

SILENCE, NOISE, OTHER = "silence", "noise", "other"
NEGATIVE_KINDS = (SILENCE, NOISE, OTHER)
# Levels of the noise trained with, drawn between these on a logarithmic scale: -50 to -10 dB.
_NOISE_RANGE = (0.003, 0.3)
# Clips looked at for one of other classes before another kind is taken.
_TRIES = 20


@lru_cache(maxsize=4)
def silence(num_seconds: int) -> ClipAudio:
    """Digital silence."""
    return samples_to_audio(np.zeros(num_seconds * SAMPLE_RATE), SAMPLE_RATE, num_seconds)


def white_noise(rng: np.random.Generator, num_seconds: int, level: float = NOISE_LEVEL) -> ClipAudio:
    """Gaussian white noise.

    Args:
        rng: draws the samples.
        num_seconds: T.
        level: root mean square before what exceeds full scale is cut, of full scale.
    """
    samples = level * rng.standard_normal(num_seconds * SAMPLE_RATE)
    return samples_to_audio(np.clip(samples, -1, 1), SAMPLE_RATE, num_seconds)


class NegativeAudio:
    """Now and then gives a training clip audio that nothing in it makes, so that its masks are empty.

    A clip of other classes is taken only where the classes of both clips are known (S4's category, AVSS's objects)
    and have none in common; MS3 names none, so that silence and noise take its share.
    """

    def __init__(self, *, probability: float, kinds: Sequence[str], donors: Sequence[Mapping] = ()):
        """
        Args:
            probability: of a replacement, 0 to 1.
            kinds: of ``NEGATIVE_KINDS``, equally likely.
            donors: records of the training set, for ``other``.

        Raises:
            InputError: a probability outside 0 to 1, or an unknown kind.
        """
        if not 0 <= probability <= 1:
            raise InputError(f"INPUT.AUDIO.NEGATIVES is {probability}; it is a probability, 0 to 1.")
        unknown = [kind for kind in kinds if kind not in NEGATIVE_KINDS]
        if unknown or (probability and not kinds):
            raise InputError(
                f"INPUT.AUDIO.NEGATIVE_KINDS is {list(kinds)}; choose from {', '.join(NEGATIVE_KINDS)}."
            )
        self.probability = probability
        self.kinds = tuple(kinds)
        self.donors = donors

    def draw(
        self,
        record: Mapping,
        num_seconds: int,
        source: str,
        *,
        rng: np.random.Generator,
        load: Callable[[Mapping, int, str], ClipAudio] | None = None,
    ) -> tuple[str, ClipAudio] | None:
        """Draw whether a clip's audio is replaced, and by what.

        Args:
            record: of the clip.
            num_seconds: T.
            source: see ``load_audio``.
            rng: makes the draws.
            load: reads another clip's audio; None for ``load_audio``.

        Returns:
            kind and audio, or None: the clip keeps its own.

        Raises:
            AudioError: the other clip's audio is unusable.
        """
        if not self.probability or rng.random() >= self.probability:
            return None
        kinds = list(self.kinds)
        while kinds:
            kind = kinds.pop(int(rng.integers(len(kinds))))
            if kind == SILENCE:
                return kind, silence(num_seconds)
            if kind == NOISE:
                low, high = np.log(_NOISE_RANGE)
                level = float(np.exp(rng.uniform(low, high)))
                return kind, white_noise(rng, num_seconds, level)
            donor = self._donor(record, rng)
            if donor is not None:
                return kind, (load or load_audio)(donor, num_seconds, source)
        return None

    def _donor(self, record: Mapping, rng: np.random.Generator) -> Mapping | None:
        own = set(record["sem_classes"] or ())
        if not own or not self.donors:
            return None
        for index in rng.integers(len(self.donors), size=_TRIES):
            donor = self.donors[index]
            theirs = set(donor["sem_classes"] or ())
            if theirs and not theirs & own:
                return donor
        return None
