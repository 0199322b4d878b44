"""Conditions under which a model is scored; :mod:`ska_vct.experiments.robustness.conditions` makes them."""

NEGATIVES = ("silence", "noise", "off_screen")
# name -> seconds by which a clip's own audio is late
DELAYS = {f"delayed_{delay}": delay for delay in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)} | {"delayed": 0.5}
# name -> description of the clip
CONDITIONS = {
    "true": "the clip as it is",
    "silence": "digital silence",
    "noise": "white noise",
    "off_screen": "the audio of another clip of the split, of another class group where classes are known",
    "delayed": "its own audio, half a second late; the end wraps around",
    **{
        name: f"its own audio, {delay} s late; the end wraps around"
        for name, delay in DELAYS.items()
        if name != "delayed"
    },
    "still": "no motion: flow is zero",
    "other_flow": "the flow of another clip of the split",
}
DEFAULT_CONDITIONS = ("true", *NEGATIVES)
