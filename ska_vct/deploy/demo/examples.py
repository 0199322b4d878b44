"""Example clips of the demo, drawn by the generator of synthetic clips."""

import shutil
import tempfile
from pathlib import Path

from ska_vct.data.registry import get_facts
from ska_vct.synth import SynthSettings
from ska_vct.synth.writer import generate

# Scene -> what it shows; kinds of ska_vct/synth/kinds.py.
SCENES = {
    "mover": "one of two moving objects sounds",
    "twin": "one of two equal objects sounds",
    "camera": "moving camera",
}
_SIDE, _SEED = 192, 3


def make_examples(folder: Path) -> list[Path]:
    """Videos of a few seconds with audio, one per scene; those that are there already stay.

    Raises:
        OSError: the folder cannot be written.
    """
    videos = [folder / f"{text}.mp4" for text in SCENES.values()]
    for kind, video in zip(SCENES, videos, strict=True):
        if video.is_file():
            continue
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            settings = SynthSettings(
                subset="ms3", train=0, val=0, test=1, size=_SIDE, seed=_SEED, scenes={kind: 1.0}, fps=20
            )
            generate(temporary, settings, jobs=1, progress=False)
            made = next((Path(temporary) / get_facts("ms3").folder).rglob("*.mp4"))
            shutil.move(made, video)
    return videos
