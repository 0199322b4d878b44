#!/usr/bin/env python
"""Make synthetic audio-visual clips in AVSBench's layout, without any download.

Example (about a minute on 2 cores):
    python datasets/make_synth.py --root datasets/synth --subset ms3 --train 600 --val 60 --test 60 --seed 0

The benchmark of physical consistency (docs/benchmark.md), a training set and six test splits:
    python datasets/make_synth.py --benchmark --root datasets/synth_benchmark
    python datasets/make_synth.py --benchmark --root datasets/synth_benchmark --only silent-twin --verify

Then train with DATASETS.ROOT datasets/synth. To resume an interrupted run, repeat the command; an existing release
made with the same settings is left unchanged. ROOT/synth_truth describes every object of every clip.
"""

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import SPLITS
from ska_vct.synth import SCENE_KINDS, SynthSettings
from ska_vct.synth.splits import BENCHMARK_VERSION, BENCHMARKS
from ska_vct.utils.cli import one_sentence_errors

DEFAULTS = {field.name: field.default for field in fields(SynthSettings)}
BENCHMARK_OPTIONS = ("benchmark", "root", "jobs", "only", "verify", "version")
_NOT_GIVEN = object()


def parse_scenes(text: str) -> dict[str, float]:
    """``plain=0.5,twin=0.5`` as a dict."""
    try:
        pairs = [part.split("=") for part in text.split(",") if part]
        return {kind.strip(): float(share) for kind, share in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of scenes and shares such as plain=0.5,twin=0.25,mover=0.25"
        ) from None


def build_parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {kind:10} {text}" for kind, text in SCENE_KINDS.items())
    parser = command_parser(__doc__, epilog=f"kinds of scene:\n{kinds}")
    parser.add_argument("--root", required=True, help="folder to write to; use it as DATASETS.ROOT")
    parser.add_argument(
        "--subset", choices=sorted(SUBSETS), help="subset whose layout to write; required without --benchmark"
    )
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=int, default=0, metavar="N", help=f"clips in the {split} split")
    parser.add_argument("--scenes", type=parse_scenes, default={"plain": 1.0}, metavar="KIND=SHARE,...",
                        help="kinds of scene and their shares, default plain=1")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=0,
                        help="processes, 0 (default): one per core; does not change the files")  # fmt: skip

    group = parser.add_argument_group("benchmark", "Of the other options, these allow only --root and --jobs.")
    group.add_argument(
        "--benchmark", action="store_true", help="write the benchmark's splits to ROOT/NAME and verify them"
    )
    names = list(BENCHMARKS[BENCHMARK_VERSION])
    group.add_argument("--only", nargs="+", choices=names, metavar="NAME",
                       help=f"only these splits: {', '.join(names)}")  # fmt: skip
    group.add_argument("--version", type=int, choices=sorted(BENCHMARKS), default=BENCHMARK_VERSION,
                       help="version of the test clips to make, default the newest")  # fmt: skip
    group.add_argument(
        "--verify", action="store_true", help="write no clips; compare existing splits with the published ones"
    )

    def knob(name: str, text: str, **options) -> None:
        default = DEFAULTS[name]
        options.setdefault("type", type(default))
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, default=default, help=f"{text}, default {default}", **options)

    knob("size", "height of the frames in pixels, even", metavar="PX")
    knob("aspect", "width / height")
    knob("seed", "same seed and settings give the same bytes", metavar="K")
    knob("fps", "frame rate of the videos")
    knob("seconds", "length of AVSS clips in seconds, 5 or 10; 0: both")
    knob("series", "flow fields kept per second")
    knob("flow_size", "side of the flow fields")
    knob("motion_scale", "factor on the extent of object motion")
    knob("camera", "strength of pan and shake in camera scenes")
    knob("flicker", "brightness noise between frames, as a share")
    knob("second_object", "probability of a second object in plain, camera and weak scenes")
    knob("both_sound", "probability that it sounds, if several may (MS3, AVSS)")
    knob(
        "rest",
        "probability that a moving object pauses for one or two seconds; -1: 0.25 if several may sound, else 0",
    )
    for name in ("looks", "timbres"):
        parser.add_argument(f"--heldout-{name}", action="store_true",
                            help=f"the test split uses only {name} absent from train and val")  # fmt: skip
    knob("audio_rate", "samples per second of the audio")
    knob("channels", "audio channels, 1 or 2")
    knob("hiss", "noise in the audio, share of full scale")
    return parser


def parse_args(arguments: list[str] | None) -> dict:
    """Options by name; exits with an error if they cannot be combined."""
    parser = build_parser()
    # argparse keeps values that the namespace already has, so options that still hold the marker were not given.
    names = [action.dest for action in parser._actions]
    marked = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(names, _NOT_GIVEN)))
    given = {name for name, value in vars(marked).items() if value is not _NOT_GIVEN}
    if "benchmark" in given:
        if wrong := sorted(given - set(BENCHMARK_OPTIONS)):
            shown = ", ".join("--" + name.replace("_", "-") for name in wrong)
            parser.error(f"--benchmark has fixed settings; remove {shown}")
    elif wrong := given & {"only", "verify", "version"}:
        parser.error(f"--{min(wrong)} needs --benchmark")
    elif "subset" not in given:
        parser.error("--subset or --benchmark is required")
    return vars(parser.parse_args(arguments))


def run_benchmark(root: str, names: list[str] | None, *, version: int, verify: bool, jobs: int) -> int:
    """Make or verify splits of the benchmark and compare them with the published ones; returns 0 if all match."""
    from ska_vct.synth.benchmark import make_benchmark, verify_benchmark

    if verify:
        differences = verify_benchmark(root, names)
    else:
        differences = make_benchmark(root, names, version=version, jobs=jobs)
    for name, lines in differences.items():
        print(f"{name}: {'differs from the published split' if lines else 'the published split'}")
        for line in lines:
            print(f"  {line}")
    if any(differences.values()):
        print(
            "make_synth: some splits differ from the published ones. Other versions of NumPy or OpenCV may draw a "
            "few pixels differently (docs/benchmark.md); any other difference means different clips.",
            file=sys.stderr,
        )
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_args(arguments)
    root, jobs = options.pop("root"), options.pop("jobs")
    benchmark, only, verify, version = (options.pop(name) for name in ("benchmark", "only", "verify", "version"))
    start = time.perf_counter()
    with one_sentence_errors():
        if benchmark:
            return run_benchmark(root, only, version=version, verify=verify, jobs=jobs)
        from ska_vct.synth import generate

        settings = SynthSettings(**options)
        written = generate(root, settings, jobs=jobs)
    counts = ", ".join(f"{count} {split}" for split, count in settings.counts.items())
    if written:
        print(f"Wrote {settings.subset} ({counts} clips) to {root} in {time.perf_counter() - start:.0f} s.")
    else:
        print(f"{root} already holds this {settings.subset} release ({counts} clips); nothing to do.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
