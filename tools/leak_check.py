"""Check whether the benchmark's clips contain shortcuts to the sounding object; score trivial predictions.

Example (a few minutes on one core):
    python datasets/make_synth.py --benchmark --root datasets/synth_benchmark
    python tools/leak_check.py --benchmark datasets/synth_benchmark --out output/leaks

Baselines that see only images, only motion, or only audio are trained on the training split's clips with one
sounding and one silent object and must decide which one sounds, on every test split. Writes leaks.md, the tables
printed at the end, and leaks.json. Exits with status 1 if a baseline does better than the construction of its
split allows. docs/benchmark.md explains the tables.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_benchmark_folders, command_parser
from ska_vct.utils.cli import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_benchmark_folders(parser, out="folder for the tables")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random features (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        from ska_vct.experiments.leakage.check import run_leak_check

        found = run_leak_check(args.benchmark, args.out, seed=args.seed)
        print((Path(args.out) / "leaks.md").read_text(encoding="utf-8"))
        for leak in found["leaks"]:
            print(
                f"LEAK: '{leak['baseline']}' is right in {leak['percent']:.1f} % of {leak['pairs']} pairs of "
                f"{leak['split']}; {leak['ceiling']} % are possible without one."
            )
    sys.exit(1 if found["leaks"] else 0)


if __name__ == "__main__":
    main()
