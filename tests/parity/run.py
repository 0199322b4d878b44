"""Compare parts of the model with golden files: inputs and outputs of the published VCT code.

Examples:
    python tests/parity/run.py                       # the excerpts in tests/data/goldens
    python tests/parity/run.py --quiet FILE.npz ...  # full files

Prints, per output, the largest absolute difference and the largest relative to the output's largest magnitude;
exits with 1 if any exceeds 1e-4. Rows of the recipe_* files have limits of their own: grey values, shares of
pixels, 1e-7 absolute for optimiser steps, or, for random draws, standard errors, as their names say.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from tests.parity import (
    arithmetic_kinds,
    model_kinds,
    network_kinds,
    recipe_init,
    recipe_mapper,
    recipe_optimizer,
)
from tests.parity.golden import EXCERPTS, TOLERANCE, Golden, Row

KINDS: dict[str, Callable[[Golden], Iterable[Row]]] = {
    "msdeform": network_kinds.msdeform,
    "pixel_decoder": network_kinds.pixel_decoder,
    "vct_head": model_kinds.vct_head,
    "vct_model": model_kinds.vct_model,
    "swin": network_kinds.swin,
    "pvtv2": network_kinds.pvtv2,
    "vggish": network_kinds.vggish,
    "matcher": arithmetic_kinds.matcher,
    "criterion": arithmetic_kinds.criterion,
    "metrics": arithmetic_kinds.metrics_kind,
    "semantic_inference": arithmetic_kinds.semantic_inference,
    "recipe_optimizer": recipe_optimizer.recipe_optimizer,
    "recipe_init": recipe_init.recipe_init,
    "recipe_mapper": recipe_mapper.recipe_mapper,
}


def run_file(path: Path) -> list[Row]:
    """All rows of one golden file.

    Raises:
        ValueError: if the file's name does not begin with a known kind, or it holds nothing to compare.
    """
    kind = next((kind for kind in KINDS if Path(path).name.startswith(kind)), None)
    if kind is None:
        raise ValueError(f"{path}: the file's name must begin with its kind, one of {', '.join(KINDS)}.")
    rows = list(KINDS[kind](Golden(path)))
    if not rows:
        raise ValueError(f"{path}: nothing to compare was found in it.")
    return rows


def main() -> int:
    """Command line; 0 if everything agrees, 1 if something differs or a file cannot be compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE.npz",
        default=sorted(EXCERPTS.glob("*.npz")),
        help="golden files; default: those in tests/data/goldens",
    )
    parser.add_argument("--quiet", action="store_true", help="print one line per file, and outputs that differ")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.manual_seed(0)
    failed = False
    print(f"{'file':<24} {'output':<72} {'max abs':>10} {'max rel':>10}")
    for path in args.files:
        try:
            rows = run_file(path)
        except (ValueError, KeyError, OSError) as error:
            print(f"{path.name:<24} cannot be compared: {error}")
            failed = True
            continue
        for row in rows:
            if not (args.quiet and row.ok):
                mark = "" if row.ok else "  DIFFERS"
                print(f"{path.stem:<24} {row.name:<72} {row.absolute:10.2e} {row.relative:10.2e}{mark}")
        worst = max(rows, key=lambda row: row.share)
        failed |= not all(row.ok for row in rows)
        summary = f"worst of {len(rows)}: {worst.name}"
        print(f"{path.stem:<24} {summary:<72} {worst.absolute:10.2e} {worst.relative:10.2e}")
    print(f"{'FAILED' if failed else 'ok'}: tolerance {TOLERANCE:g} relative to each output's largest magnitude")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
