"""Conditions under which a model is scored; :mod:`ska_vct.experiments.robustness.conditions` makes them."""

NEGATIVES = ("silence", "noise", "off_screen")
# name -> what a clip is like
CONDITIONS = {
    "true": "the clip as it is",
    "silence": "digital silence",
    "noise": "white noise",
    "off_screen": "the sound of another clip of the split, of another class group where classes are known",
    "delayed": "its own sound, half a second late; the end comes first",
    "still": "no motion: flow is zero",
    "other_flow": "the flow of another clip of the split",
}
DEFAULT_CONDITIONS = ("true", *NEGATIVES)
