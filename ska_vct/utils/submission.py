"""Hands work to a cluster with submitit, an optional extra (``pip install -e .[slurm]``)."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def submitting(
    cluster: str,
    folder: str | os.PathLike,
    parameters: Mapping[str, Any],
    *,
    error: type[Exception],
    instead: str,
) -> Iterator[Any]:
    """Submitit's executor, whose refusals become one sentence.

    Args:
        cluster: ``slurm``, or ``local`` to run jobs as processes of this machine.
        folder: where the jobs' scripts and logs go; all machines must see it.
        parameters: submitit's.
        error: raised when submitit is not installed, or refuses cluster or parameters.
        instead: what to do without submitit, for the message.
    """
    try:
        import submitit
    except ImportError:
        raise error(f"--submit needs the package submitit; run 'pip install submitit', or {instead}.") from None
    try:
        executor = submitit.AutoExecutor(folder=os.fspath(folder), cluster=cluster)
        executor.update_parameters(**parameters)
        yield executor
    except (RuntimeError, NameError, TypeError, ValueError) as refusal:
        raise error(f"submitit cannot submit to '{cluster}': {refusal}") from None
