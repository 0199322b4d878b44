"""Run a command and record its time and the peak memory of the process tree.

Example:
    python scripts/measure.py measured.json -- python tools/train_net.py --config configs/synth/quickstart.yaml
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

SECONDS_BETWEEN = 0.5


def tree_memory(root: int) -> int:
    """Resident bytes of process ``root`` and its descendants; shared pages count once."""
    parents, total = {}, 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    for process in parents:
        ancestor = process
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root:
            total += _proportional(process)
    return total


def _proportional(process: int) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="JSON file; the time of an earlier, interrupted run is added")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("no command given after --")

    before = {"seconds": 0.0, "peak_bytes": 0}
    if args.result.is_file():
        before |= json.loads(args.result.read_text())
    start, peak, done = time.monotonic(), 0, threading.Event()
    process = subprocess.Popen(command)

    def watch() -> None:
        nonlocal peak
        while not done.wait(SECONDS_BETWEEN):
            peak = max(peak, tree_memory(process.pid))

    if sys.platform == "linux":
        threading.Thread(target=watch, daemon=True).start()
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait() or 130
    done.set()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
    result = {
        "seconds": before["seconds"] + time.monotonic() - start,
        "peak_bytes": max(before["peak_bytes"], peak),
    }
    args.result.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.result.with_name(args.result.name + ".tmp")
    temporary.write_text(json.dumps(result))
    os.replace(temporary, args.result)
    return status


if __name__ == "__main__":
    sys.exit(main())
