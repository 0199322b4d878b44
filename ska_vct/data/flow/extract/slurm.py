"""Hand shards of a run to a cluster's job array with submitit, an optional extra (``pip install -e .[slurm]``)."""

import os
from collections.abc import Mapping

from ska_vct.data.flow.extract.run import FlowSummary, compute_flow
from ska_vct.data.flow.store import FlowError
from ska_vct.utils.submission import submitting


def submit_flow(
    cluster: str,
    folder: str | os.PathLike,
    *,
    shards: int,
    parameters: Mapping[str, str | int] | None = None,
    **options,
) -> list:
    """Submit one job per shard.

    Args:
        cluster: ``slurm``, or ``local`` to run the jobs as processes of this machine.
        folder: where the jobs' scripts and logs go; all machines must see it.
        shards: number of jobs.
        parameters: submitit's, such as ``slurm_partition``, ``timeout_min``, ``cpus_per_task``, ``gpus_per_node``.
        options: arguments of ``compute_flow`` except ``shard`` and ``progress``.

    Returns:
        submitit's jobs; ``job.job_id`` names one, ``job.result()`` waits for its :class:`FlowSummary`.

    Raises:
        FlowError: submitit is not installed, or it refuses cluster or parameters.
    """
    if shards < 1:
        raise FlowError(f"The number of shards is {shards}; it must be at least 1.")
    instead = "start the shards yourself with --shard i/n"
    wanted = {"name": "compute_flow", "timeout_min": 24 * 60, **(parameters or {})}
    with submitting(cluster, folder, wanted, error=FlowError, instead=instead) as executor, executor.batch():
        return [executor.submit(_run_shard, (index, shards), options) for index in range(shards)]


def _run_shard(shard: tuple[int, int], options: dict) -> FlowSummary:
    summary = compute_flow(**options, shard=shard, progress=False)
    print(f"Shard {shard[0]}/{shard[1]}: {summary}")
    for line in (*summary.remarks, *summary.failures):
        print(line)
    return summary
