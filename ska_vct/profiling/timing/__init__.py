"""Time and memory of the model's parts (``tools/benchmark.py``).

Each row of a benchmark runs in its own process. The processes take turns, so that ratios stay valid on a busy
machine.
"""

import os
from collections.abc import Sequence
from typing import Any

from ska_vct.utils.files import write_json

from .machine import machine_facts
from .report import as_dict, table
from .subjects import SUBJECTS
from .turns import Measurement, measure_in_turn
from .work import BenchmarkError, Case, Clock, Work

__all__ = ["SUBJECTS", "BenchmarkError", "Case", "Clock", "Measurement", "Work", "benchmark", "measure_in_turn"]


def benchmark(
    subject: str,
    config_files: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    repeat: int = 5,
    warmup: int = 1,
    apart: bool = False,
    json: str | os.PathLike = "",
    progress: bool = True,
    **options: Any,
) -> str:
    """Measure a subject.

    Args:
        subject: one of ``SUBJECTS``.
        config_files, overrides, warmup: see :meth:`Subject.cases`.
        repeat, apart, progress: see :func:`measure_in_turn`.
        json: output file for all repetitions and the facts of the machine; empty for none.
        options: ``vary``, ``device`` and ``threads`` of :meth:`Subject.cases`, and the subject's own options.

    Returns:
        the table and conclusions as text.

    Raises:
        BenchmarkError, ConfigError: the benchmark cannot be run as requested.
    """
    if repeat < 1 or warmup < 0:
        raise BenchmarkError(f"--repeat is {repeat} and --warmup is {warmup}; they must be at least 1 and 0.")
    what = SUBJECTS[subject]
    facts = machine_facts()
    cases = what.cases(config_files, overrides, warmup=warmup, **options)
    measurements = measure_in_turn(cases, what.build, repeat=repeat, apart=apart, progress=progress)
    lines = what.conclude(measurements)
    if json:
        settings = {"repeat": repeat, "warmup": warmup, "apart": apart}
        write_json(json, as_dict(subject, measurements, lines, machine=facts, settings=settings))
    return "\n\n".join(filter(None, [table(measurements), "\n".join(lines)]))
