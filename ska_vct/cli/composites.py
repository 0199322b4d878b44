"""``datasets/make_composites.py``."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import fields

from ska_vct.cli._parser import command_parser
from ska_vct.synth.composites.settings import COMPOSITE_KINDS, CompositeSettings
from ska_vct.utils.cli import one_sentence_errors

_DEFAULTS = {field.name: field.default for field in fields(CompositeSettings)}
_TRAIN, _VAL, _TEST = 1200, 80, 100


def build_parser(description: str | None = None) -> argparse.ArgumentParser:
    """The command's options."""
    kinds = "\n".join(f"  {kind:10} {text}" for kind, text in COMPOSITE_KINDS.items())
    parser = command_parser(description or _main_docstring(), epilog=f"kinds of scene:\n{kinds}")
    add = parser.add_argument
    # fmt: off
    add("--root", required=True, metavar="DIR", help="folder to write to")
    add("--from-deb", nargs="+", default=[], metavar="FILE", help="Debian packages of stamps and wallpapers")
    add("--cutouts", metavar="DIR", help="folder of cut-outs, PNG with alpha, and their recordings")
    add("--photographs", metavar="DIR", help="folder of photographs for backgrounds")
    add("--licence", default="unknown", metavar="TEXT", help="licence of the folders' files")
    add("--train", type=int, default=_TRAIN, metavar="N", help=f"training clips, default {_TRAIN}")
    add("--val", type=int, default=_VAL, metavar="N", help=f"validation clips, default {_VAL}")
    add("--test", type=int, default=_TEST, metavar="N", help=f"clips in each test split, default {_TEST}")
    add("--only", nargs="+", metavar="NAME", help="only these folders: train, plain, silent-twin, ...")
    add("--jobs", type=int, default=0, metavar="N",
        help="processes, 0 (default): one per core; does not change the files")
    # fmt: on
    for name, text in (
        ("size", "height and width of the frames in pixels, even"),
        ("seed", "same seed, settings and sources give the same clips"),
        ("fps", "frame rate of the videos"),
        ("series", "flow fields kept per second"),
        ("flow_size", "side of the flow fields"),
        ("shake", "probability of a slightly shaking camera"),
        ("close", "probability that a single object fills 40 to 80 %% of the frame"),
        ("occluder", "probability that something hides a part of the scene"),
        ("partial", "probability that only a part of an object moves"),
        ("rest", "probability that an object pauses for one or two seconds"),
        ("lag", "largest delay of the sound behind the motion in seconds"),
        (
            "dubbed",
            "probability that objects have the looks of silent cut-outs and others' recordings; not in tests",
        ),
    ):
        default = _DEFAULTS[name]
        flag = "--" + name.replace("_", "-")
        add(flag, type=type(default), default=default, metavar="X", help=f"{text}, default {default}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather the sources and make all clips; returns 0."""
    options = vars(build_parser().parse_args(arguments))
    root, jobs, only = (options.pop(name) for name in ("root", "jobs", "only"))
    packages, cutouts, photographs, licence = (
        options.pop(name) for name in ("from_deb", "cutouts", "photographs", "licence")
    )
    start = time.perf_counter()
    with one_sentence_errors():
        from ska_vct.synth.composites.release import make_release

        counts = make_release(
            root, packages=packages, cutouts=cutouts, photographs=photographs, licence=licence, only=only,
            jobs=jobs, **options,
        )  # fmt: skip
    made = ", ".join(f"{count} in {name}" for name, count in counts.items())
    print(f"Clips below {root}: {made}; {time.perf_counter() - start:.0f} s.")
    return 0


def _main_docstring() -> str | None:
    return sys.modules["__main__"].__doc__


if __name__ == "__main__":
    sys.exit(main())
