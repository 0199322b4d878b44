"""Time and memory of the model's parts (``tools/benchmark.py``).

Each row of a benchmark has a process of its own; the processes take turns, so that ratios hold on a busy machine.
"""

import argparse

from ska_vct.utils.files import write_json

from .machine import machine_facts
from .report import as_dict, table
from .subjects import SUBJECTS
from .turns import Measurement, measure_in_turn
from .work import BenchmarkError, Case, Clock, Work

__all__ = ["SUBJECTS", "BenchmarkError", "Case", "Clock", "Measurement", "Work", "benchmark", "measure_in_turn"]


def benchmark(args: argparse.Namespace) -> str:
    """What ``tools/benchmark.py`` does.

    Args:
        args: ``subject``; ``config_file``, ``opts``, ``vary``; ``device``, ``threads``, ``warmup``, ``repeat``,
            ``apart``, ``json``, ``progress``; and the subject's own.

    Returns:
        the table, and what follows from it.

    Raises:
        BenchmarkError, ConfigError: something cannot be measured as asked for; says what and what to do.
    """
    if args.repeat < 1 or args.warmup < 0:
        raise BenchmarkError(f"--repeat is {args.repeat} and --warmup {args.warmup}; at least 1 and 0 are needed.")
    subject = SUBJECTS[args.subject]
    facts = machine_facts()
    cases = subject.cases(args)
    measurements = measure_in_turn(
        cases, subject.build, repeat=args.repeat, apart=args.apart, progress=args.progress
    )
    lines = subject.conclude(measurements)
    if args.json:
        settings = {"repeat": args.repeat, "warmup": args.warmup, "apart": args.apart}
        write_json(args.json, as_dict(args.subject, measurements, lines, machine=facts, settings=settings))
    return "\n\n".join(filter(None, [table(measurements), "\n".join(lines)]))
