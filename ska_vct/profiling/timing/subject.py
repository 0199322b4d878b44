"""The form of a subject: its options, its rows, how one row's work is built, and what follows from the figures."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from ska_vct.engine.setup import load_cfg

from .turns import Measurement
from .work import BenchmarkError, Case, Work

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("off", *HALF_TYPES)


class Subject:
    """Something to benchmark; subclasses give what is documented here.

    Attributes:
        name: on the command line.
        help: one line.
    """

    name = ""
    help = ""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the subject's own options."""

    def options(self, args: argparse.Namespace) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Variants to measure for each config: what the row's name says of it, and options for ``build``."""
        return [("", {})]

    def build(self, case: Case) -> Work:
        """Make a row's work, in the process that will measure it."""
        raise NotImplementedError

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        """Sentences that the figures allow."""
        return []

    def cases(self, args: argparse.Namespace) -> list[Case]:
        """A row for each config, value of ``--vary`` and variant."""
        key, *values = args.vary or ("",)
        if key and not values:
            raise BenchmarkError(f"--vary {key} names no value; write --vary KEY VALUE [VALUE ...].")
        device = chosen_device(args.device)
        cases = []
        for config in args.config_file:
            for value in values or [None]:
                changes = [*args.opts, *([key, value] if value is not None else [])]
                # What is wrong with a config is said before anything is measured.
                load_cfg(config, changes)
                for label, options in self.options(args):
                    words = [
                        short_name(config) if len(args.config_file) > 1 else "",
                        value and f"{key} {value}",
                        label,
                    ]
                    cases.append(
                        Case(
                            subject=self.name,
                            name=", ".join(filter(None, words)) or short_name(config),
                            config_file=config,
                            opts=tuple(changes),
                            options=dict(options),
                            device=device,
                            threads=args.threads,
                            warmup=args.warmup,
                        )
                    )
        return cases


def chosen_device(name: str) -> str:
    """``cpu`` or ``cuda``, of ``auto`` what there is."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def short_name(config: str) -> str:
    """Folder and stem of a config file: ``s4/swin_b_384``."""
    path = Path(config)
    return f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem


def case_cfg(case: Case) -> CfgNode:
    """The case's configuration on its device; no weights, data or output folder are looked for."""
    cfg = load_cfg(case.config_file, case.opts)
    cfg.MODEL.DEVICE = case.device
    return cfg


def autocast(device: str, precision: str):
    """Mixed precision as ``--amp`` names it."""
    if precision == "off":
        return nullcontext()
    return torch.autocast(device_type=device, dtype=HALF_TYPES[precision])


def add_sizes(parser: argparse.ArgumentParser, *, batch: int) -> None:
    """``--batch`` and ``--frames``."""
    parser.add_argument(
        "--batch", type=int, default=batch, metavar="N", help="clips per call (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="of a clip; default: the subset's")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """``--amp``, one or several."""
    parser.add_argument(
        "--amp", nargs="+", choices=PRECISIONS, default=["off"], help="mixed precision, one row for each named"
    )


def precision_label(precision: str, all_precisions: Sequence[str]) -> str:
    """What the row's name says of its precision."""
    return "" if list(all_precisions) == ["off"] else {"off": "fp32"}.get(precision, precision)
