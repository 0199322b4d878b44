"""Conditions under which a model is scored; :mod:`ska_vct.experiments.robustness.conditions` makes them."""

NEGATIVES = ("silence", "noise", "off_screen")
# name -> description of the clip
CONDITIONS = {
    "true": "the clip as it is",
    "silence": "digital silence",
    "noise": "white noise",
    "off_screen": "the audio of another clip of the split, of another class group where classes are known",
    "delayed": "its own audio, half a second late; the end wraps around",
    "still": "no motion: flow is zero",
    "other_flow": "the flow of another clip of the split",
}
DEFAULT_CONDITIONS = ("true", *NEGATIVES)
