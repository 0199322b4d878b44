"""Object classes of synthetic clips: each has an appearance, a timbre and a kind of motion (docs/benchmark.md)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ObjectClass:
    """One object class, named after real AVSBench classes so that the releases stay valid.

    Attributes:
        category: S4 category.
        avss: AVSS class.
        shape, texture: names in ``looks.SHAPES`` and ``looks.TEXTURES``.
        hue: centre of its colours, degrees.
        timbre: name in ``timbres.TIMBRES``.
        events: name in ``envelopes.EVENTS``, the loudness curve of one event.
        orbit: name in ``motion.ORBITS``.
    """

    category: str
    avss: str
    shape: str
    texture: str
    hue: float
    timbre: str
    events: str
    orbit: str


CLASSES = (
    ObjectClass(
        category="playing_violin", avss="violin", shape="figure_eight", texture="stripes", hue=25.0,
        timbre="bowed_string", events="swell", orbit="sway",
    ),
    ObjectClass(
        category="playing_tabla", avss="tabla", shape="drum", texture="rings", hue=330.0,
        timbre="drum", events="hit", orbit="jolt",
    ),
    ObjectClass(
        category="playing_glockenspiel", avss="marimba", shape="trapezoid", texture="bars", hue=190.0,
        timbre="struck_bar", events="hit", orbit="shiver",
    ),
    ObjectClass(
        category="dog_barking", avss="dog", shape="dog_head", texture="spots", hue=45.0,
        timbre="bark", events="hit", orbit="hop",
    ),
    ObjectClass(
        category="ambulance_siren", avss="emergency-car", shape="van", texture="checks", hue=0.0,
        timbre="siren", events="swell", orbit="turn",
    ),
    ObjectClass(
        category="helicopter", avss="helicopter", shape="rotor", texture="noise", hue=230.0,
        timbre="rotor", events="hold", orbit="pulse",
    ),
    ObjectClass(
        category="cat_meowing", avss="cat", shape="cat_head", texture="stripes", hue=280.0,
        timbre="meow", events="swell", orbit="circle",
    ),
    ObjectClass(
        category="chainsawing_trees", avss="saw", shape="cog", texture="noise", hue=110.0,
        timbre="buzz", events="hold", orbit="rattle",
    ),
)  # fmt: skip

# Number of variants of each class's look and timbre; the last two are reserved for the held-out test split.
NUM_VARIANTS = 8
HELDOUT_VARIANTS = (6, 7)
SEEN_VARIANTS = tuple(index for index in range(NUM_VARIANTS) if index not in HELDOUT_VARIANTS)
