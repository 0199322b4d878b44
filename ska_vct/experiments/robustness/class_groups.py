"""Four groups of sounding classes, to pick audio a clip cannot contain (AVSBench-Robust, arXiv 2502.00358)."""

from collections.abc import Iterable

CLASS_GROUPS = {
    "music": (
        "accordion", "bassoon", "bell", "cello", "clarinet", "drum", "erhu", "flute", "guitar", "guzheng",
        "handpan", "harmonica", "harp", "marimba", "piano", "pipa", "saxophone", "sitar", "sorna", "tabla",
        "trombone", "trumpet", "tuba", "ukulele", "violin",
        "playing_violin", "playing_glockenspiel", "playing_piano", "playing_ukulele", "playing_tabla",
        "playing_acoustic_guitar",
    ),
    "human": (
        "baby", "boy", "girl", "man", "woman",
        "baby_laughter", "male_speech", "female_singing",
    ),
    "animal": (
        "bird", "cat", "dog", "donkey", "duck", "elephant", "goose", "hen", "horse", "leopard", "lion", "parrot",
        "pig", "sheep", "squirrel", "tiger", "wolf",
        "mynah_bird_singing", "lions_roaring", "cat_meowing", "dog_barking", "horse_clip-clop", "coyote_howling",
    ),
    "device": (
        "airplane", "axe", "boat", "bus", "car", "clipper", "clock", "emergency-car", "frying-food", "gun",
        "hair-dryer", "helicopter", "keyboard", "missile-rocket", "motorcycle", "mower", "saw", "tank", "tractor",
        "train", "truck", "utv", "vacuum-cleaner",
        "typing_on_computer_keyboard", "lawn_mowing", "driving_buses", "cap_gun_shooting", "chainsawing_trees",
        "ambulance_siren", "race_car",
    ),
}  # fmt: skip
_GROUP = {name: group for group, names in CLASS_GROUPS.items() for name in names}


def groups_of(classes: Iterable[str]) -> frozenset[str] | None:
    """Groups of AVSS classes or S4 categories; None for no class at all, or a class without a group."""
    groups = frozenset(_GROUP.get(name) for name in classes)
    return None if not groups or None in groups else groups
