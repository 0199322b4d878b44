"""Turns measurements into ratios, targets and tables."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from tabulate import tabulate

SIDES = ("vct", "ours", "full")
GIB = 2**30


@dataclass(frozen=True)
class Target:
    """Targets as ratios; None without a target.

    Attributes:
        speed: VCT's time over ours, at least, by device.
        memory: our memory over VCT's, at most.
    """

    speed: dict[str, float]
    memory: float | None = None


# (part, measured quantity, title, target)
ROWS = (
    ("infer", "whole", "inference", Target({"cpu": 1.3, "cuda": 2.0})),
    ("train_ms3", "step", "MS3 training step", Target({"cpu": 1.3, "cuda": 2.0}, 2 / 3)),
    ("train_s4", "step", "S4 training step", Target({"cpu": 5.0, "cuda": 5.0}, 1 / 3)),
    ("criterion", "both", "criterion and matcher, forward and backward", Target({"cpu": 2.0, "cuda": 5.0})),
    ("criterion", "forward", "criterion and matcher, forward", Target({"cpu": 2.0, "cuda": 5.0})),
    (
        "masks_criterion",
        "both",
        "masks, criterion and matcher, forward and backward",
        Target({"cpu": 2.0, "cuda": 5.0}),
    ),
    ("masks_criterion", "forward", "masks, criterion and matcher, forward", Target({"cpu": 2.0, "cuda": 5.0})),
    ("fscore", "score", "F-score", Target({"cpu": 20.0, "cuda": 20.0})),
    ("deform", "both", "deformable attention, forward and backward", Target({"cuda": 1.0})),
    ("deform", "forward", "deformable attention, forward", Target({"cuda": 1.0})),
)
MOST_OVER_BACKBONE = 1.4
PARTS = tuple(dict.fromkeys(row[0] for row in ROWS))
# Parts whose models come with and without the pre-mask encoder.
WITH_MODEL = ("infer", "train_ms3", "train_s4")


@dataclass(frozen=True)
class Figure:
    """Medians over the rounds of one program.

    Attributes:
        seconds: wall time of one call.
        added: bytes at the peak above what was in use before the first call, or None.
        total: bytes at the peak, or None.
        rounds: how many processes measured it.
    """

    seconds: float
    added: float | None
    total: float | None
    rounds: int


def key_of(part: str, pre_mask: bool) -> str:
    """Name of a part in the JSON file."""
    return f"{part}/{'pre_mask' if pre_mask else 'no_pre_mask'}" if part in WITH_MODEL else part


def figure(rounds: Iterable[dict], what: str) -> Figure | None:
    """Medians of ``what`` over the rounds of one program; None without any."""
    found = [result[what] for result in rounds]
    if not found:
        return None

    def median(values: list) -> float | None:
        return None if None in values else statistics.median(values)

    return Figure(
        seconds=median([one["seconds"] for one in found]),
        added=median(
            [None if one["peak_bytes"] is None else one["peak_bytes"] - one["before_bytes"] for one in found]
        ),
        total=median([one["peak_bytes"] for one in found]),
        rounds=len(found),
    )


def speed_up(vct: Figure | None, ours: Figure | None) -> float | None:
    """How many times as fast as VCT."""
    return vct.seconds / ours.seconds if vct and ours else None


def memory_share(vct: Figure | None, ours: Figure | None) -> float | None:
    """Share of VCT's added memory; None if either program adds too little to measure."""
    if not vct or not ours or not vct.added or ours.added is None:
        return None
    return ours.added / vct.added


def markdown(data: dict) -> str:
    """Render ``data``, the content of the JSON file, as Markdown.

    Args:
        data: with ``settings``, ``machine``, ``agreement`` and ``runs`` (by key and side, a list of results).
    """
    lines = [_machine(data), "", *_main_table(data)]
    lines += ["", *_backbone_table(data)]
    lines += ["", *_full_table(data)]
    lines += ["", *_agreement(data)]
    return "\n".join(lines).strip().replace("\n\n\n", "\n\n") + "\n"


def _cases(data: dict, parts: Iterable[str] = PARTS) -> list[tuple]:
    """(title, runs by program, quantity, target) of every row with figures."""
    result = []
    for part, what, title, target in ROWS:
        if part not in parts:
            continue
        for pre_mask in (False, True) if part in WITH_MODEL else (False,):
            runs = data["runs"].get(key_of(part, pre_mask), {})
            suffix = f", pre-mask encoder {'on' if pre_mask else 'off'}" if part in WITH_MODEL else ""
            if any(runs.values()):
                result.append((title + suffix, runs, what, target))
    return result


def _main_table(data: dict) -> list[str]:
    rows = []
    # Targets are for the paper's backbone.
    device = data["settings"]["device"] if data["settings"]["backbone"] == "swin_b" else None
    for title, runs, what, target in _cases(data):
        vct, ours = (figure(runs.get(side, ()), what) for side in ("vct", "ours"))
        aims, met = [], []
        for ratio, limit, unit in (
            (speed_up(vct, ours), target.speed.get(device), "speed"),
            (memory_share(vct, ours), target.memory if device else None, "memory"),
        ):
            if limit is not None:
                aims.append(f"{limit:.1f} x" if unit == "speed" else f"{limit:.2f} of the memory")
                if ratio is not None:
                    met.append(ratio >= limit if unit == "speed" else ratio <= limit)
        rows.append(
            (
                title,
                _seconds(vct),
                _seconds(ours),
                _ratio(speed_up(vct, ours), " x"),
                _memory(vct),
                _memory(ours),
                _ratio(memory_share(vct, ours)),
                ", ".join(aims) or "-",
                "-" if not met else "yes" if all(met) else "no",
            )
        )
    head = ("part", "VCT s", "ours s", "faster", "VCT GiB", "ours GiB", "share", "target", "met")
    return _table(head, rows)


def _backbone_table(data: dict) -> list[str]:
    rows = []
    for title, runs, what, _ in _cases(data, ("infer",)):
        for side, name in (("vct", "VCT"), ("ours", "ours")):
            whole, backbones = (figure(runs.get(side, ()), part) for part in (what, "backbones"))
            if whole:
                quotient = whole.seconds / backbones.seconds
                aimed = side != "vct" and data["settings"]["backbone"] == "swin_b"
                met = "-" if not aimed else "yes" if quotient <= MOST_OVER_BACKBONE else "no"
                rows.append((f"{name}, {title}", _seconds(whole), _seconds(backbones), f"{quotient:.2f}", met))
    head = ("whole against its backbones", "whole s", "backbones s", "quotient", f"at most {MOST_OVER_BACKBONE}")
    return _table(head, rows)


def _full_table(data: dict) -> list[str]:
    rows = []
    for title, runs, what, _ in _cases(data, WITH_MODEL):
        ours, full = (figure(runs.get(side, ()), what) for side in ("ours", "full"))
        if ours and full:
            rows.append((title, _seconds(full), _ratio(full.seconds / ours.seconds, " x"), _memory(full)))
    return _table(("SKA-VCT with all modules", "s", "time of ours as VCT", "GiB"), rows)


def _machine(data: dict) -> str:
    settings, machine = data["settings"], data["machine"]
    facts = "; ".join(f"{name} {value}" for name, value in machine.items())
    rounds = sorted({len(runs) for sides in data["runs"].values() for runs in sides.values() if runs})
    count = "-".join(str(n) for n in dict.fromkeys((rounds or [0])[:: max(1, len(rounds) - 1)]))
    return (
        f"{facts}; threads {settings['threads']}; {settings['clips']} clip(s) of 5 frames, 384 x 384; "
        f"backbone {settings['backbone']}; {'float16 autocast' if settings['amp'] else 'float32'}; "
        + (f"ours with {' '.join(settings['overrides'])}; " if settings["overrides"] else "")
        + f"median of {count} process(es) each, in turn."
    )


def _agreement(data: dict) -> list[str]:
    lines = []
    for name, value in sorted(data["agreement"].items()):
        mean = f" (mean {value['mean']:.1e})" if "mean" in value else ""
        lines.append(f"- {name}: largest difference {value['largest']:.1e} of the largest value{mean}")
    return ["Agreement of both programs:", "", *lines] if lines else []


def _table(head: tuple, rows: list[tuple]) -> list[str]:
    if not rows:
        return []
    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=align).splitlines()


def _seconds(value: Figure | None) -> str:
    return (
        "not run" if value is None else f"{value.seconds:.3g}" if value.seconds < 100 else f"{value.seconds:.0f}"
    )


def _memory(value: Figure | None) -> str:
    if value is None or value.added is None:
        return "-"
    return f"{value.added / GIB:.2f} ({value.total / GIB:.2f})"


def _ratio(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"
