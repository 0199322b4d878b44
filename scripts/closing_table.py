"""Print the results of a quickstart run.

Example: python scripts/closing_table.py output/quickstart
"""

import argparse
import json
import sys
from pathlib import Path

TEST_SET = "avsbench_ms3_test"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of scripts/quickstart.sh")
    folder = parser.parse_args().folder
    try:
        results = json.loads((folder / "test" / "inference" / TEST_SET / "results.json").read_text())
        measured = json.loads((folder / "training.json").read_text())
    except FileNotFoundError as error:
        print(f"error: {error.filename} is missing; let scripts/quickstart.sh finish first.", file=sys.stderr)
        return 1
    scores, convention = results["sem_seg"], results["convention"]
    # Results of version 0.1.0 do not name it.
    threshold = results.get("m_f_threshold", {}).get(convention)
    named = f"convention '{convention}'" + (f", threshold: {threshold}" if threshold else "")
    rows = [
        ("test clips", f"{results['num_clips']} of {results['dataset']}"),
        ("M_J", f"{scores['M_J']:.2f} % (convention '{convention}')"),
        ("M_F", f"{scores['M_F']:.2f} % ({named})"),
        ("training", f"{measured['seconds']:.0f} s"),
        ("peak memory", f"{measured['peak_bytes'] / 2**30:.2f} GiB (training, all processes)"),
        ("images", str(folder / "images")),
        ("weights", str(folder / "train" / "model_best.pth")),
    ]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"    {name:<{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
