"""The runs of an ablation: a YAML list of configs times seeds, in order of execution.

A list::

    benchmark: datasets/synth_benchmark   # DATASETS.ROOT of training is its folder train; the splits are beside it
    seeds: [1, 2, 3]
    baseline: ppqg                        # differences to this row are paired by seed
    splits: [plain, silent-twin]          # optional; default: all splits of the benchmark; [] scores nothing
    negatives_on: [plain]                 # splits also scored with silence, noise and off-screen audio
    delays_on: [silent-mover]             # splits also scored with late audio
    overrides: [SOLVER.MAX_ITER, 400]     # optional, for all rows
    variants:                             # optional; each row is trained once per variant, as ROW.VARIANT
      low: [SOLVER.BASE_LR, 0.0005]
      high: [SOLVER.BASE_LR, 0.001]
    rows:                                 # or rows_from: the list whose rows these are
      - name: ppqg                        # folder of the row's runs
        label: no motion                  # in tables
        config: configs/ablations/synth/ppqg.yaml
        overrides: [SOLVER.MAX_ITER, 600] # optional
        seeds: [1]                        # optional
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ska_vct.engine.setup import load_cfg
from ska_vct.utils.bounded_yaml import parse_yaml
from ska_vct.utils.errors import SkaVctError

SPLITS = ("plain", "silent-twin", "silent-mover", "camera-motion", "weak-motion", "off-screen")
TRAIN_FOLDER = "train"
# Keys that say where a run happens, not what it computes.
_LOCATION_KEYS = ("OUTPUT_DIR", "SEED", "DATASETS.ROOT", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS")
_LIST_KEYS = {
    "benchmark", "seeds", "baseline", "splits", "negatives_on", "delays_on", "overrides", "variants", "rows",
    "rows_from",
}  # fmt: skip
_ROW_KEYS = {"name", "label", "config", "overrides", "seeds"}


class AblationError(SkaVctError, ValueError):
    """A list of runs is invalid or contradicts existing runs; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: a config trained with several seeds.

    Attributes:
        name: short name, used for folders and ``--rows``.
        label: name shown in tables.
        config: config file.
        overrides: KEY, VALUE, ...
        seeds: the row's own seeds; None for the list's.
    """

    name: str
    label: str
    config: Path
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A list of runs; attributes are the keys in the module docstring, and ``name``, the file's stem."""

    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    baseline: str
    benchmark: Path
    splits: tuple[str, ...] = SPLITS
    negatives_on: tuple[str, ...] = ()
    delays_on: tuple[str, ...] = ()

    @property
    def train_root(self) -> Path:
        return self.benchmark / TRAIN_FOLDER

    @property
    def scoring(self) -> dict[str, Any]:
        """Scoring settings: ``splits``, name -> root, ``negatives_on`` and ``delays_on``."""
        splits = {name: str(self.benchmark / name) for name in self.splits}
        return {"splits": splits, "negatives_on": list(self.negatives_on), "delays_on": list(self.delays_on)}


@dataclass(frozen=True)
class Run:
    """One training run with its scores."""

    row: Row
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.row.name} seed {self.seed}"


def read_ablation(path: str | os.PathLike) -> Ablation:
    """Read and check a list.

    Raises:
        AblationError: the list is invalid; the message names the file, the entry and what is expected.
    """
    where, content = str(path), _read_list(path)
    _check_mapping(content, where, allowed=_LIST_KEYS, needed=("benchmark", "seeds", "baseline"))
    rows = _read_rows(content, where)
    names = [row.name for row in rows]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise AblationError(f"{where}: there are several rows named {', '.join(duplicates)}.")
    if content["baseline"] not in names:
        raise AblationError(
            f"{where}: baseline '{content['baseline']}' is not a row; rows are {', '.join(names)}."
        )
    splits = _texts(content.get("splits", SPLITS), f"{where}: 'splits'")
    changed = {key: _texts(content.get(key, ()), f"{where}: '{key}'") for key in ("negatives_on", "delays_on")}
    for key, chosen in changed.items():
        if unknown := [name for name in chosen if name not in splits]:
            raise AblationError(f"{where}: {key} names {', '.join(unknown)}, which 'splits' does not contain.")
    return Ablation(
        name=Path(path).stem,
        rows=rows,
        seeds=_seeds(content["seeds"], where),
        baseline=content["baseline"],
        benchmark=Path(str(content["benchmark"])),
        splits=splits,
        **changed,
    )


def _read_list(path: str | os.PathLike) -> Any:
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AblationError(f"There is no list '{path}'; the project's are in configs/ablations/synth.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AblationError(f"{path} cannot be read as plain YAML: {' '.join(str(error).split())}.") from None


def _read_rows(content: Mapping[str, Any], where: str) -> tuple[Row, ...]:
    """The list's own rows, or those of ``rows_from``, each with the list's overrides and once per variant."""
    if ("rows" in content) == ("rows_from" in content):
        raise AblationError(f"{where}: either 'rows' or 'rows_from' is needed, and not both.")
    entries = content.get("rows")
    if "rows_from" in content:
        source = Path(where).parent / str(content["rows_from"])
        found = _read_list(source)
        entries = found.get("rows") if isinstance(found, dict) else None
        where = str(source)
    if not isinstance(entries, list) or not entries:
        raise AblationError(f"{where}: 'rows' must be a list with at least one entry.")
    rows = [_read_row(row, f"{where}, row {index + 1}") for index, row in enumerate(entries)]
    common = _overrides(content.get("overrides"), where)
    rows = [replace(row, overrides=(*row.overrides, *common)) for row in rows]
    variants = content.get("variants", {"": []})
    if not isinstance(variants, dict) or not variants:
        raise AblationError(f"{where}: 'variants' must map names to pairs of KEY, VALUE.")
    read = {_row_name(name, where) if name else "": _overrides(pairs, where) for name, pairs in variants.items()}
    return tuple(
        replace(
            row,
            name=f"{row.name}.{name}" if name else row.name,
            label=f"{row.label}; {name}" if name else row.label,
            overrides=(*row.overrides, *pairs),
        )
        for row in rows
        for name, pairs in read.items()
    )


def plan_runs(
    ablation: Ablation,
    out: str | os.PathLike,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    part: tuple[int, int] = (1, 1),
) -> list[Run]:
    """The runs in execution order: all rows with their first seed, then all with the next one.

    Args:
        out: folder of the ablation.
        rows: names of rows; None for all.
        seeds: override the list's and the rows' own seeds.
        part: (i, n), every n-th run starting with the i-th; i counts from 1.

    Raises:
        AblationError: a row is unknown or the part does not exist.
    """
    known = [row.name for row in ablation.rows]
    unknown = [name for name in rows or () if name not in known]
    if unknown:
        raise AblationError(f"There is no row {', '.join(unknown)}; the list has {', '.join(known)}.")
    index, parts = part
    if not 1 <= index <= parts:
        raise AblationError(
            f"Part {index}/{parts} does not exist; parts of {parts} are 1/{parts} to {parts}/{parts}."
        )
    chosen = [row for row in ablation.rows if not rows or row.name in rows]
    seeds_of = {row.name: tuple(seeds or row.seeds or ablation.seeds) for row in chosen}
    runs = [
        Run(row, seeds_of[row.name][k], Path(out) / row.name / f"seed{seeds_of[row.name][k]}")
        for k in range(max(len(values) for values in seeds_of.values()))
        for row in chosen
        if k < len(seeds_of[row.name])
    ]
    return runs[index - 1 :: parts]


def config_keys(row: Row, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Every key that determines a run of ``row``, ``"MODEL.SKA.NAME" -> value``, without keys of location.

    Raises:
        ConfigError: the config file or an override is invalid.
    """
    flat = _flatten(load_cfg(row.config, [*row.overrides, *overrides]))
    return {key: value for key, value in flat.items() if key not in _LOCATION_KEYS}


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys on which two of :func:`config_keys` differ, with both values.

    A key that only one of them has counts as its present default in the other: the code added or removed it since.
    """
    defaults = _flatten(load_cfg())
    keys = sorted((before.keys() | now.keys()) & defaults.keys())
    pairs = {key: (before.get(key, defaults[key]), now.get(key, defaults[key])) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    result = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            result |= _flatten(value, f"{prefix}{key}.")
        else:
            # JSON turns tuples into lists.
            result[f"{prefix}{key}"] = _as_lists(value)
    return result


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _read_row(entry: Any, where: str) -> Row:
    _check_mapping(entry, where, allowed=_ROW_KEYS, needed=("name", "label", "config"))
    name, overrides = _row_name(entry["name"], where), _overrides(entry.get("overrides"), where)
    config = Path(str(entry["config"]))
    if not config.is_file():
        raise AblationError(f"{where}: there is no config '{config}' (paths are relative to the current folder).")
    seeds = _seeds(entry["seeds"], where) if "seeds" in entry else None
    return Row(name=name, label=str(entry["label"]), config=config, overrides=overrides, seeds=seeds)


def _row_name(value: Any, where: str) -> str:
    name = str(value)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise AblationError(f"{where}: the name '{name}' cannot be a folder; use letters, digits, _ and -.")
    return name


def _overrides(value: Any, where: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise AblationError(f"{where}: overrides must be a list of KEY, VALUE, ...; got {value!r}.")
    overrides = tuple(str(item) for item in value or ())
    if len(overrides) % 2:
        raise AblationError(f"{where}: 'overrides' must be pairs of KEY, VALUE; '{overrides[-1]}' has no partner.")
    return overrides


def _check_mapping(content: Any, where: str, *, allowed: set[str], needed: Sequence[str]) -> None:
    if not isinstance(content, dict):
        raise AblationError(f"{where}: expected a mapping with {', '.join(needed)}.")
    unknown = sorted(str(key) for key in content if key not in allowed)
    if unknown:
        raise AblationError(f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}.")
    missing = [key for key in needed if key not in content]
    if missing:
        raise AblationError(f"{where}: {', '.join(missing)} is missing.")


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    good = isinstance(value, list) and value and all(type(seed) is int and seed >= 0 for seed in value)
    if not good or len(set(value)) < len(value):
        raise AblationError(f"{where}: 'seeds' must be distinct non-negative integers, got {value!r}.")
    return tuple(value)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise AblationError(f"{where} must be a list of names, got {value!r}.")
    return tuple(value)
