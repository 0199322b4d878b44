"""Settings of a synthetic release; equal settings give equal bytes."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ska_vct.data.facts import SPLITS
from ska_vct.data.flow.names import MIN_SIDE
from ska_vct.data.registry import get_facts
from ska_vct.synth.classes import HELDOUT_VARIANTS, SEEN_VARIANTS
from ska_vct.synth.kinds import SCENE_KINDS, SceneOptions
from ska_vct.utils.errors import SkaVctError

# Incremented whenever the same settings would give other bytes.
# 2: silent movers rest as often as sounding objects; only their clips changed.
GENERATOR_VERSION = 2


class SynthError(SkaVctError, ValueError):
    """A setting is invalid or the target folder holds other files; one sentence for the user."""


def check_facts(what: str, checks: Iterable[tuple[bool, str, object]]) -> None:
    """Raise a SynthError for the first of (whether it holds, what is needed, what was given) that fails."""
    for good, wanted, found in checks:
        if not good:
            raise SynthError(f"{what} need {wanted}; got {found}.")


def check_scenes(title: str, scenes: Mapping[str, float], kinds: Collection[str]) -> None:
    """Raise a SynthError unless ``scenes`` are shares of some of ``kinds``, which ``title`` names."""
    unknown = sorted(set(scenes) - set(kinds))
    if unknown or not scenes:
        raise SynthError(f"{title} are {', '.join(kinds)}; got {', '.join(unknown) or 'none'}.")
    shares = scenes.values()
    if not all(math.isfinite(share) and share >= 0 for share in shares) or not sum(shares) > 0:
        raise SynthError(f"Shares of scenes must be 0 or more, and some above 0; got {scenes}.")


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """Settings of one synthetic subset.

    Attributes:
        subset: ``s4``, ``ms3`` or ``avss``.
        train, val, test: clips per split.
        size: height of the images, even.
        aspect: width / height.
        seed: of all random draws.
        scenes: scene kind -> share of the clips (shares need not add up to 1).
        fps: images per second of the videos, also used for flow.
        seconds: 0 for the subset's own mix of lengths, otherwise one of them.
        series: stored flow fields per second.
        flow_size: side of the flow fields.
        motion_scale, camera: factors on the size of object and camera motion.
        flicker: relative standard deviation of the brightness between images.
        second_object: probability that a plain, camera or weak clip has a second object.
        both_sound: probability that it sounds, if the subset has several sources.
        rest: probability that a sounding object is silent and still for a second or two, and that a silent mover
            is still; -1 for the subset's default (0 if one object sounds, 0.25 if several may).
        heldout_looks, heldout_timbres: the test split uses only looks (timbres) not seen in train and val.
        audio_rate, channels: of the audio files.
        hiss: root mean square of the background noise, as a share of full scale.
    """

    subset: str
    train: int
    val: int
    test: int
    size: int = 96
    aspect: float = 1.0
    seed: int = 0
    scenes: dict[str, float] = field(default_factory=lambda: {"plain": 1.0})
    fps: int = 10
    seconds: int = 0
    series: int = 10
    flow_size: int = 24
    motion_scale: float = 1.0
    camera: float = 1.0
    flicker: float = 0.02
    second_object: float = 0.5
    both_sound: float = 0.5
    rest: float = -1.0
    heldout_looks: bool = False
    heldout_timbres: bool = False
    audio_rate: int = 16000
    channels: int = 1
    hiss: float = 0.001

    def __post_init__(self):
        try:
            facts = get_facts(self.subset)
        except KeyError as error:
            raise SynthError(error.args[0]) from None
        lengths = sorted({*facts.label_frames.values()} or {facts.num_frames})
        checks = (
            (min(self.counts.values()) >= 0 and sum(self.counts.values()) > 0, "at least one clip in some split",
             f"train {self.train}, val {self.val}, test {self.test}"),
            (self.size % 2 == 0 and self.size >= MIN_SIDE, f"an even size of at least {MIN_SIDE}", self.size),
            (0.5 <= self.aspect <= 2, "an aspect from 0.5 to 2", self.aspect),
            (self.seed >= 0, "a seed that is not negative", self.seed),
            (4 <= self.fps <= 60, "4 to 60 images per second", self.fps),
            (self.seconds in (0, *lengths), f"seconds 0 or {' or '.join(map(str, lengths))}",
             self.seconds),
            (1 <= self.series <= self.fps, "a series from 1 to the images per second", self.series),
            (self.flow_size >= 1, "a flow size of at least 1", self.flow_size),
            (0 < self.motion_scale <= 2, "a motion scale above 0, at most 2", self.motion_scale),
            (0 <= self.camera <= 2, "a camera strength from 0 to 2", self.camera),
            (0 <= self.flicker <= 0.5, "a flicker from 0 to 0.5", self.flicker),
            (0 <= self.second_object <= 1, "a probability for a second object", self.second_object),
            (0 <= self.both_sound <= 1, "a probability that both sound", self.both_sound),
            (self.rest == -1 or 0 <= self.rest <= 1, "a probability of rest, or -1", self.rest),
            (8000 <= self.audio_rate <= 48000, "an audio rate from 8000 to 48000", self.audio_rate),
            (self.channels in (1, 2), "1 or 2 channels", self.channels),
            (0 <= self.hiss <= 0.1, "a hiss from 0 to 0.1", self.hiss),
        )  # fmt: skip
        check_facts("Synthetic clips", checks)
        check_scenes("Scene kinds", self.scenes, SCENE_KINDS)

    @property
    def counts(self) -> dict[str, int]:
        """Clips per split."""
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def height(self) -> int:
        return self.size

    @property
    def width(self) -> int:
        """Even, for the video encoder."""
        return 2 * round(self.size * self.aspect / 2)

    def scene_options(self, split: str, *, multi: bool) -> SceneOptions:
        """The difficulty settings of one clip; ``multi`` if several objects may sound."""
        held_out = split == "test"
        return SceneOptions(
            multi=multi,
            second_object=self.second_object,
            both_sound=self.both_sound,
            rest=(0.25 if multi else 0.0) if self.rest == -1 else self.rest,
            motion_scale=self.motion_scale,
            camera=self.camera,
            looks=HELDOUT_VARIANTS if held_out and self.heldout_looks else SEEN_VARIANTS,
            timbres=HELDOUT_VARIANTS if held_out and self.heldout_timbres else SEEN_VARIANTS,
        )

    def to_json(self) -> dict:
        """Plain values, including the generator's version."""
        return {"generator_version": GENERATOR_VERSION, **asdict(self)}
