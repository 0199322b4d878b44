"""Loads weights into a model: every entry is used or reported by name, or nothing is loaded at all."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tabulate import tabulate
from torch import Tensor, nn

from .causes import likely_causes
from .convert import resize as resizing
from .convert.formats import BACKBONE, PRE_MASK, identify
from .files import CheckpointError

_LOGGER = logging.getLogger(__name__)
_ROWS_SHOWN = 20
_NAMES_SHOWN = 6
# Computed from sizes, or counters that are never read.
_DERIVED = re.compile(r".*\.(relative_position_index|num_batches_tracked)$")
# Segmentation networks have a norm per stage of Swin, classifiers have none; it starts at the identity.
_STAGE_NORMS = re.compile(r".*backbone\.network\.norm\d\.(weight|bias)$")
# Read by losses only.
TRAINING_ONLY = ("prototype_alignment.", "criterion.", "losses.")
_BOUNDARY = "brm."


@dataclass(frozen=True)
class LoadOptions:
    """Which differences between a file and the model are allowed.

    Attributes:
        resize: resize position tables and the query mixer's grid (``MODEL.RESIZE_ON_LOAD``).
        skip: prefixes of our names that are not loaded and keep their initial values (``MODEL.WEIGHTS_SKIP``).
        inference: the model is used for prediction, so nothing it depends on may keep its initial values.
    """

    resize: bool = False
    skip: tuple[str, ...] = ()
    inference: bool = False


# The default: nothing may differ.
EXACTLY = LoadOptions()


@dataclass
class LoadReport:
    """What happened to the entries of a file.

    Attributes:
        path: the file.
        title: kind of file.
        loaded: our names that were loaded.
        unused: name in the file -> why it is not needed.
        kept: our names that the file lacks and that keep their initial values -> why that is correct.
        resized: our name -> (shape in the file, shape in the model).
    """

    path: str
    title: str
    loaded: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    resized: dict[str, tuple] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report as text."""
        result = [f"{self.path} is a {self.title}: {len(self.loaded)} entries loaded"]
        result += [f"  not used, {why}: {_listed(names)}" for why, names in _by_reason(self.unused).items()]
        result += [
            f"  initial values kept, {why}: {_listed(names)}" for why, names in _by_reason(self.kept).items()
        ]
        shapes = [f"{name} {found} -> {wanted}" for name, (found, wanted) in self.resized.items()]
        return result + ([f"  resized: {_listed(shapes)}"] if shapes else [])


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    path: str,
    key: str = "MODEL.WEIGHTS",
    part: str = "",
    lacks: Sequence[str] = (),
    options: LoadOptions = EXACTLY,
) -> LoadReport:
    """Load a state dict of any supported format into ``model``, or raise and leave ``model`` unchanged.

    Args:
        model: the model.
        state: names as in the file.
        path: the file, for messages.
        key: config key that names the file, for messages.
        part: prefix of our names to load, e.g. ``backbone.network.``; everything if empty.
        lacks: prefixes of our names that this file may lack, in addition to those its format always lacks.
        options: which differences are allowed.

    Raises:
        CheckpointError: the format is unknown or the file does not fit; the message has a table of the entries and
            the likely causes, and the ``details`` attribute lists all entries.
    """
    own = model.state_dict()
    try:
        kind, converted = identify(state, path=path, own=own)
    except CheckpointError as error:
        raise CheckpointError(f"{key}: {error}") from None
    report = LoadReport(path=path, title=kind.title, unused=dict(converted.unused))
    found = _of_part(converted.state, part, report)
    found = _without_skipped(found, options.skip, report)
    found = _fill_rows(found, own, converted.rows, report)
    if options.resize:
        _resize(found, own, getattr(getattr(model, "mpqg", None), "mixer_grid", None), report)
    scope = {name: value for name, value in own.items() if name.startswith(part)}
    _keep_initial(scope, found, (*kind.lacks, *lacks) if not part else (), options, report)

    details = {
        "missing": sorted(scope.keys() - found.keys() - report.kept.keys()),
        "unexpected": sorted(found.keys() - scope.keys()),
        "of a different shape": sorted(n for n in found if n in scope and found[n].shape != scope[n].shape),
    }
    if any(details.values()):
        raise _mismatch(details, found, scope, path=path, title=kind.title, key=key)
    broken = [name for name, value in found.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{key}: checkpoint '{path}' holds NaN or infinity in {_listed(broken)}; its training diverged or "
            "the file is damaged: use an earlier one."
        )
    if options.inference:
        _check_complete(report, getattr(model, "reads_boundary", False), path=path, title=kind.title)
    model.load_state_dict(own | found, strict=True)
    report.loaded = sorted(found)
    for line in report.lines():
        _LOGGER.info(line)
    return report


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, path: str) -> LoadReport:
    """Load ``state``, which uses our names only, if every key and shape fits.

    Raises:
        CheckpointError: see :func:`load_into`.
    """
    return load_into(module, state, path=path)


def _of_part(state: Mapping[str, Tensor], part: str, report: LoadReport) -> dict[str, Tensor]:
    """Entries of ``part``; a backbone file can also initialise the pre-mask encoder."""
    if not part:
        return dict(state)
    if part == PRE_MASK and not any(name.startswith(PRE_MASK) for name in state):
        state = {PRE_MASK + n.removeprefix(BACKBONE) if n.startswith(BACKBONE) else n: v for n, v in state.items()}
    result = {name: value for name, value in state.items() if name.startswith(part)}
    if not result:
        raise CheckpointError(
            f"Checkpoint '{report.path}' is a {report.title} and holds nothing for '{part.rstrip('.')}'; name "
            "another file."
        )
    report.unused |= {name: "it belongs to another part of the model" for name in state.keys() - result.keys()}
    return result


def _without_skipped(state: dict[str, Tensor], skip: Sequence[str], report: LoadReport) -> dict[str, Tensor]:
    skipped = {name for name in state if name.startswith(tuple(skip))} if skip else set()
    report.unused |= dict.fromkeys(sorted(skipped), "MODEL.WEIGHTS_SKIP names it")
    return {name: value for name, value in state.items() if name not in skipped}


def _fill_rows(
    state: dict[str, Tensor], own: Mapping[str, Tensor], rows: Mapping[str, int], report: LoadReport
) -> dict[str, Tensor]:
    """Place entries that hold only some of our rows; the other rows keep their initial values."""
    for name, first in rows.items():
        theirs, ours = state.get(name), own.get(name)
        if theirs is None or ours is None or theirs.shape[1:] != ours.shape[1:]:
            continue
        if len(theirs) + first == len(ours):
            state[name] = torch.cat((ours[:first].cpu(), theirs))
            report.kept[f"{name}[:{first}]"] = "the file has no such source"
    return state


def _resize(
    state: dict[str, Tensor], own: Mapping[str, Tensor], mixer_grid: tuple[int, int] | None, report: LoadReport
) -> None:
    for name, tensor in list(state.items()):
        if name not in own or tensor.shape == own[name].shape:
            continue
        if resizing.follows_from_sizes(name):
            report.unused[name] = "computed from the window size"
            del state[name]
        elif resizing.is_size_dependent(name):
            resized = resizing.resize(name, tensor, own[name].shape, mixer_grid)
            if resized is not None:
                report.resized[name] = (tuple(tensor.shape), tuple(resized.shape))
                state[name] = resized


def _keep_initial(
    scope: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    lacks: Sequence[str],
    options: LoadOptions,
    report: LoadReport,
) -> None:
    """Record which entries of the model legitimately have no counterpart in the file."""
    absent = scope.keys() - found.keys()
    norms = {name for name in absent if _STAGE_NORMS.match(name)}
    if any(_STAGE_NORMS.match(name) for name in found):
        norms = set()
    for name in sorted(absent):
        if _DERIVED.match(name):
            report.kept[name] = "computed from sizes, or step counters"
        elif name in norms:
            report.kept[name] = "classifiers have no norm per stage"
        elif name.startswith(tuple(options.skip)):
            report.kept[name] = "MODEL.WEIGHTS_SKIP names them"
        elif name.startswith(tuple(lacks)):
            report.kept[name] = f"a {report.title} has none"
        elif name.startswith(TRAINING_ONLY):
            report.kept[name] = "only losses read them"


def _check_complete(report: LoadReport, reads_boundary: bool, *, path: str, title: str) -> None:
    harmless = TRAINING_ONLY if reads_boundary else (*TRAINING_ONLY, _BOUNDARY)
    random = [
        name
        for name in report.kept
        if not _DERIVED.match(name) and not _STAGE_NORMS.match(name) and not name.startswith(harmless)
    ]
    if random:
        causes = likely_causes(shapes={}, missing=random, unexpected=())
        hint = f": {'; '.join(causes)}" if causes else ""
        raise CheckpointError(
            f"Checkpoint '{path}' ({title}) lacks {len(random)} entries that predictions depend on "
            f"({_listed(random)}), so these would use random weights{hint}. Training may start from this file."
        )


def _mismatch(
    details: dict[str, list[str]],
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    *,
    path: str,
    title: str,
    key: str,
) -> CheckpointError:
    shapes = {name: (tuple(found[name].shape), tuple(own[name].shape)) for name in details["of a different shape"]}
    counts = ", ".join(f"{len(names)} {what}" for what, names in details.items() if names)
    rows = [("key", "in the model", "in the file")]
    rows += [(name, str(wanted), str(there)) for name, (there, wanted) in shapes.items()]
    rows += [(name, str(tuple(own[name].shape)), "missing") for name in details["missing"]]
    rows += [(name, "unexpected", str(tuple(found[name].shape))) for name in details["unexpected"]]
    more = len(rows) - 1 - _ROWS_SHOWN
    causes = likely_causes(shapes=shapes, missing=details["missing"], unexpected=details["unexpected"])
    lines = [f"{key}: checkpoint '{path}' ({title}) does not fit the model, nothing was loaded: {counts}."]
    table = tabulate(rows[: _ROWS_SHOWN + 1], tablefmt="plain", disable_numparse=True)
    lines += [f"  {row}" for row in table.splitlines()]
    lines += [f"  ... and {more} more"] if more > 0 else []
    lines += [f"Likely cause: {cause}." for cause in causes]
    if not causes:
        lines.append("Use the config it was trained with (config.yaml beside it).")
    error = CheckpointError("\n".join(lines))
    error.details = details
    return error


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    result = defaultdict(list)
    for name, why in reasons.items():
        result[why].append(name)
    return result


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
