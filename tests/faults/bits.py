"""Flips single bits in a checkpoint, and counts how many of the damaged files are accepted; none may be.

    python tests/faults/bits.py --checkpoint output/run/model_final.pth --flips 1000 --seed 0

Also cuts the file, at as many places as a tenth of the flips. Exit status: 0 none accepted, 1 some.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ska_vct.checkpoint.files import CheckpointError, load_file


def flip_bits(path: Path, folder: Path, *, flips: int, seed: int) -> list[str]:
    """Damage copies of a checkpoint, one bit or one cut each.

    Args:
        path: the checkpoint.
        folder: for the copies.
        flips: number of bits; a tenth as many cuts.
        seed: of the places. Half of the flips are in the first and last 4 KiB, where the archive's structure is.

    Returns:
        what was accepted.
    """
    whole, draw, accepted = path.read_bytes(), random.Random(seed), []
    copy = folder / "damaged.pth"
    for number in range(flips):
        place = draw.randrange(len(whole))
        if number % 2:
            place = draw.choice((place % 4096, len(whole) - 1 - place % 4096)) % len(whole)
        data = bytearray(whole)
        bit = draw.randrange(8)
        data[place] ^= 1 << bit
        copy.write_bytes(data)
        if _is_accepted(copy):
            accepted.append(f"bit {bit} of byte {place}")
    for _ in range(flips // 10):
        length = draw.randrange(len(whole))
        copy.write_bytes(whole[:length])
        if _is_accepted(copy):
            accepted.append(f"the first {length} bytes")
    copy.unlink(missing_ok=True)
    return accepted


def _is_accepted(path: Path) -> bool:
    try:
        load_file(path)
    except CheckpointError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="written by a training")
    parser.add_argument("--flips", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the places (default: %(default)s)")
    args = parser.parse_args()
    if not _is_accepted(args.checkpoint):
        sys.exit(f"{args.checkpoint} is damaged already")
    with tempfile.TemporaryDirectory() as folder:
        accepted = flip_bits(args.checkpoint, Path(folder), flips=args.flips, seed=args.seed)
    print(f"{args.flips} flipped bits and {args.flips // 10} cuts in {args.checkpoint}: {len(accepted)} accepted")
    print(*accepted, sep="\n")
    sys.exit(bool(accepted))


if __name__ == "__main__":
    main()
