"""Trains configs with several seeds, scores and tabulates them; used by ``tools/run_ablation.py``."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ska_vct.utils.files import write_json
from ska_vct.utils.folders import make_folder

from ..job_queue import Job, JobQueue, QueueResult, interrupt_on_termination, is_locked
from .plan import Ablation, AblationError, Run, changed_keys, config_keys, plan_runs, read_ablation
from .report import export, write_tables
from .run import PLAN, is_done, read_json

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_MAX_DIFFERENCES = 4


def run_ablation(
    rows_file: str | os.PathLike,
    out: str | os.PathLike,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    part: tuple[int, int] = (1, 1),
    jobs: int = 1,
    threads: int = 0,
    device_ids: Sequence[int] = (),
    redo: bool = False,
    table_only: bool = False,
    export_to: str | os.PathLike | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Run the unfinished runs of a list, then write the tables.

    Args:
        rows_file: YAML list of rows, seeds and benchmark, see :func:`read_ablation`.
        out: folder of the runs and tables.
        rows, seeds: restrict the list to these; None for all.
        overrides: KEY, VALUE, ... for all rows.
        part: (I, N), every N-th run starting with the I-th; I counts from 1.
        jobs, threads, device_ids: see :func:`job_slots`.
        redo: move runs of another config aside and repeat them.
        table_only: run nothing; tabulate existing runs.
        export_to: folder to copy tables, figure and summary to.
        say: called with each line of progress.

    Returns:
        True if no run failed.

    Raises:
        AblationError, ConfigError, OSError: the input is invalid; the message says what, where and what to do.
    """
    ablation = read_ablation(rows_file)
    out = make_folder(out)
    result = None
    if not table_only:
        runs = plan_runs(ablation, out, rows=rows, seeds=seeds, part=part)
        _check_folders(ablation, os.fspath(rows_file))
        prepare_runs(ablation, runs, overrides=overrides, redo=redo, say=say)
        interrupt_on_termination()
        slots = job_slots(jobs, threads=threads, device_ids=device_ids)
        result = JobQueue(slots=slots, say=say).run([_job(run) for run in runs])
    say(write_tables(ablation, out))
    say(f"Tables, figure and summary: {out / ablation.name}*")
    if export_to:
        say(f"Copied: {', '.join(str(path) for path in export(ablation, out, export_to))}")
    if result is not None:
        _say_result(result, say)
    return result is None or not result.failed


def prepare_runs(
    ablation: Ablation,
    runs: Sequence[Run],
    *,
    overrides: Sequence[str] = (),
    redo: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Write each run's ``run.json``; nothing is written if any run contradicts what was started in its folder.

    Args:
        overrides: KEY, VALUE, ... for all rows.
        redo: move contradicting runs aside instead of refusing.

    Raises:
        AblationError: a run was started with other values.
        ConfigError: a config or an override is wrong.
    """
    keys = {row.name: config_keys(row, overrides) for row in {run.row.name: run.row for run in runs}.values()}
    conflicts = {}
    for run in runs:
        before = read_json(run.folder / PLAN)
        changes = changed_keys(before["keys"], keys[run.row.name]) if before else {}
        if changes:
            conflicts[run.folder] = changes
    if conflicts and not redo:
        folder, changes = next(iter(conflicts.items()))
        listed = [f"{key} {old!r}, now {new!r}" for key, (old, new) in list(changes.items())[:_MAX_DIFFERENCES]]
        more = f" and {len(changes) - _MAX_DIFFERENCES} more" if len(changes) > _MAX_DIFFERENCES else ""
        raise AblationError(
            f"{len(conflicts)} runs were started with other values, e.g. {folder} with {', '.join(listed)}{more}; "
            "choose another --out, or add --redo to move those runs aside and repeat them."
        )
    for folder in conflicts:
        if is_locked(folder):
            raise AblationError(f"{folder} was started with other values and is still running; stop it first.")
        aside = folder.with_name(f"{folder.name}.old.{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(folder, aside)
        say(f"{folder} has a different config; it was moved to {aside}")
    for run in runs:
        plan = {
            "row": run.row.name,
            "config": str(run.row.config),
            "overrides": [*run.row.overrides, *overrides],
            "seed": run.seed,
            "train_root": str(ablation.train_root),
            "scoring": ablation.scoring,
            "keys": keys[run.row.name],
        }
        write_json(run.folder / PLAN, plan)


def job_slots(jobs: int, *, threads: int = 0, device_ids: Sequence[int] = ()) -> list[dict[str, str]]:
    """Environment of each of ``jobs`` runs at a time.

    Args:
        threads: of a run; 0 divides the cores among the runs.
        device_ids: GPUs, in turn; none for all there are.
    """
    count = str(threads or max(1, (os.cpu_count() or 1) // jobs))
    devices = list(device_ids) or list(range(torch.cuda.device_count()))
    slots = []
    for slot in range(jobs):
        environment = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = str(devices[slot % len(devices)])
        # The code of this checkout, whatever the current folder.
        paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        slots.append(environment)
    return slots


def _check_folders(ablation: Ablation, where: str) -> None:
    for folder in (ablation.train_root, *map(Path, ablation.scoring["splits"].values())):
        if not folder.is_dir():
            raise AblationError(
                f"There is no folder '{folder}', which {where} needs; make it with datasets/make_synth.py, or "
                "change 'benchmark' or 'splits' there."
            )


def run_command(folder: Path) -> list[str]:
    """The command line of the run in ``folder``."""
    return [sys.executable, "-m", "ska_vct.experiments.ablation.run", str(folder)]


def _job(run: Run) -> Job:
    return Job(
        name=run.name, folder=run.folder, command=run_command(run.folder), is_finished=lambda: is_done(run.folder)
    )


def _say_result(result: QueueResult, say: Callable[[str], None]) -> None:
    if result.elsewhere:
        say(f"Running in other processes: {', '.join(result.elsewhere)}; run again later for the complete table.")
    if result.failed:
        say(f"FAILED: {', '.join(result.failed)}; see each run's log.txt. Run the same command again to retry.")
