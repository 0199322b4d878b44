"""Kinds of scene, and the difficulty settings of a clip."""

from dataclasses import dataclass, field

# kind -> content of a clip of this kind
SCENE_KINDS = {
    "plain": "one or two objects of different classes; the second may sound as well, or be silent and still",
    "twin": "a sounding object and a silent, still one of the same class and appearance",
    "mover": "a sounding object and a silent one of any class that moves and rests in a rhythm of its own",
    "camera": "like plain, with a panning and shaking camera",
    "weak": "like plain, with very small motion",
    "offscreen": "silent, still objects and the sound of a class out of view",
}
ROLES = ("sounding", "twin", "mover", "still")


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """Difficulty settings of one clip.

    Attributes:
        multi: more than one object may sound.
        second_object: probability that a plain clip has a second object.
        both_sound: probability that it sounds, if several may.
        rest: probability that a sounding object is silent and at rest for a second or two; a silent mover rests
            as often.
        motion_scale, camera: factors on the size of object and camera motion.
        looks, timbres: variants that may be used.
    """

    multi: bool
    second_object: float = 0.5
    both_sound: float = 0.5
    rest: float = 0.0
    motion_scale: float = 1.0
    camera: float = 1.0
    looks: tuple[int, ...] = field(default=(0,))
    timbres: tuple[int, ...] = field(default=(0,))
