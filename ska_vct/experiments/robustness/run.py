"""Measures whether a model uses the audio, and its match with motion (docs/scores.md)."""

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from torch import nn
from tqdm import tqdm

from ska_vct.data.audio.names import NOISE_LEVEL
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.online import build_mapper
from ska_vct.engine.datasets import record_options
from ska_vct.engine.predictor import subset_of
from ska_vct.engine.setup import setup_cfg
from ska_vct.engine.trainer import Trainer
from ska_vct.engine.weights import build_trained_model
from ska_vct.evaluation import AVSEvaluator
from ska_vct.experiments.robustness.conditions import ConditionMapper, check_conditions
from ska_vct.experiments.robustness.evaluator import ConditionEvaluator, compare, condition_scores
from ska_vct.experiments.robustness.names import DEFAULT_CONDITIONS, DELAYS, NEGATIVES
from ska_vct.experiments.robustness.report import write_robustness
from ska_vct.structures.clip import TRUE_CONDITION
from ska_vct.synth.splits import SUBSET as BENCHMARK_SUBSET
from ska_vct.synth.splits import TEST_SPLITS
from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.folders import make_folder

_LOGGER = logging.getLogger(__name__)
PLAIN = "plain"


def evaluate_robustness(
    cfg: CfgNode,
    model: nn.Module,
    splits: Mapping[str, str | os.PathLike],
    *,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    negatives_on: Collection[str] | None = None,
    delays_on: Collection[str] = (),
    seed: int = 0,
    noise_level: float = NOISE_LEVEL,
    out: str | os.PathLike | None = None,
    progress: bool = True,
) -> dict:
    """Score ``model`` on several releases under several conditions.

    Every clip is loaded once, and image features are computed once for all conditions.

    Args:
        cfg: the model's; of ``DATASETS.TEST`` the first name says which subset and split is scored.
        model: with its weights; left in the mode it was in.
        splits: name for tables -> root of a release, as ``DATASETS.ROOT``; others are compared with ``plain``.
        conditions: of ``ska_vct.experiments.robustness.conditions.CONDITIONS``.
        negatives_on: splits on which conditions other than ``true`` are tried; None for all.
        delays_on: splits on which all ``DELAYS`` are tried as well, a curve over how late the audio is.
        seed: of the noise and of the choice of donors.
        noise_level: root mean square of the white noise, of full scale.
        out: folder for the files of ``ska_vct/experiments/robustness/report.py``; None for no files.
        progress: show a bar per split.

    Returns:
        what ``robustness.json`` holds: ``convention`` (of ``M_J``, ``M_F``, ``G_mIoU`` and ``drop``), ``unit``,
        ``seed`` and ``splits``: name -> ``num_clips``, ``conditions`` (name -> see
        ``condition_scores`` of ``evaluator.py``), ``G_mIoU``, ``drop`` and ``notes``. Percent.

    Raises:
        ValueError: a condition or split does not exist.
        DatasetError, ClipError: a release is incomplete, or a file of a clip is unusable.
    """
    check_conditions(conditions)
    unknown = sorted({*(negatives_on or ()), *delays_on} - set(splits))
    if unknown:
        raise InputError(
            f"There is no split {', '.join(unknown)} to change clips of; there are {', '.join(splits)}."
        )
    scores, clips = {}, {}
    for name, root in splits.items():
        chosen = list(conditions if negatives_on is None or name in negatives_on else [TRUE_CONDITION])
        chosen += [delay for delay in DELAYS if delay not in chosen] if name in delays_on else []
        mapper = _build_mapper(cfg, root, conditions=chosen, seed=seed, noise_level=noise_level)
        found = _evaluate_split(cfg, model, name, mapper, progress)
        scores[name] = {
            "num_clips": len(mapper.records),
            "conditions": {
                condition: condition_scores(report, list(stats.values()))
                for condition, (report, stats) in found.items()
            },
            "notes": mapper.notes(),
        }
        clips |= {(name, condition): stats for condition, (_, stats) in found.items()}
    result = {
        "convention": cfg.TEST.CONVENTION,
        "unit": "percent",
        "seed": seed,
        "splits": compare(scores, negatives=NEGATIVES, plain=PLAIN),
    }
    if out is not None:
        write_robustness(result, clips, make_folder(out))
    return result


def run_robustness(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    weights: str | os.PathLike | None = None,
    out: str | os.PathLike,
    data: Iterable[tuple[str, str]] = (),
    benchmark: str | os.PathLike | None = None,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    negatives_on: Collection[str] | None = None,
    seed: int = 0,
    noise_level: float = NOISE_LEVEL,
    num_gpus: int | None = None,
) -> dict:
    """Load a model and call :func:`evaluate_robustness`.

    Args:
        config_file, overrides, num_gpus: see :func:`ska_vct.engine.setup.setup_cfg`.
        weights: checkpoint; None for the config's own.
        out: folder for the files.
        data, benchmark: see :func:`choose_splits`.
        conditions, negatives_on, seed, noise_level: see :func:`evaluate_robustness`.

    Returns:
        the scores of :func:`evaluate_robustness`.

    Raises:
        SkaVctError, OSError: the input is invalid; the message says what, where and what to do.
    """
    out = make_folder(out)
    changes = [*overrides, *(["MODEL.WEIGHTS", os.fspath(weights)] if weights else [])]
    cfg = setup_cfg(config_file, changes, num_gpus=num_gpus, eval_only=True)
    splits = choose_splits(cfg, data=data, benchmark=benchmark)
    return evaluate_robustness(
        cfg,
        build_trained_model(cfg),
        splits,
        conditions=conditions,
        negatives_on=negatives_on,
        seed=seed,
        noise_level=noise_level,
        out=out,
    )


def choose_splits(
    cfg: CfgNode, *, data: Iterable[tuple[str, str]] = (), benchmark: str | os.PathLike | None = None
) -> dict[str, str]:
    """Splits to score, name -> root; ``DATASETS.TEST`` at ``DATASETS.ROOT`` if none is given.

    Args:
        cfg: the model's.
        data: pairs of a name and a root.
        benchmark: folder that holds the folders ``TEST_SPLITS``; those that exist are scored, and a warning
            names the others.

    Raises:
        ValueError: a name comes twice, or the benchmark is not of the subset that ``DATASETS.TEST`` names.
        FileNotFoundError: a folder does not exist, or the benchmark has none of its splits.
    """
    splits: dict[str, str] = {}
    if benchmark:
        if subset_of(cfg.DATASETS.TEST[0]).name != BENCHMARK_SUBSET:
            raise InputError(
                f"The benchmark's clips are laid out as MS3, but DATASETS.TEST names {cfg.DATASETS.TEST[0]}; use "
                "a config of MS3, or add DATASETS.TEST \"('avsbench_ms3_test',)\"."
            )
        splits = {name: f"{benchmark}/{name}" for name in TEST_SPLITS if Path(benchmark, name).is_dir()}
        lacking = [name for name in TEST_SPLITS if name not in splits]
        if not splits:
            raise MissingFileError(
                f"Folder '{benchmark}' holds none of the benchmark's splits ({', '.join(TEST_SPLITS)}); make "
                "them with datasets/make_synth.py --benchmark, or name releases with --data NAME=ROOT."
            )
        if lacking:
            _LOGGER.warning(f"'{benchmark}' has no {', '.join(lacking)}; the other splits are scored.")
    for name, root in data:
        if name in splits:
            raise InputError(f"Split '{name}' is named twice; give each its own name.")
        if not Path(root).is_dir():
            raise MissingFileError(f"There is no folder '{root}' for split '{name}'.")
        splits[name] = root
    return splits or {cfg.DATASETS.TEST[0]: cfg.DATASETS.ROOT}


def _build_mapper(cfg: CfgNode, root: str | os.PathLike, **options) -> ConditionMapper:
    dataset = cfg.DATASETS.TEST[0]
    subset, split = subset_of(dataset), MetadataCatalog.get(dataset).split
    records = load_records(subset.name, split, root, **record_options(cfg))
    return ConditionMapper(mapper=build_mapper(cfg, is_train=False), records=records, root=root, **options)


def _evaluate_split(cfg: CfgNode, model: nn.Module, name: str, mapper: ConditionMapper, progress: bool) -> dict:
    loader = Trainer.build_test_loader(cfg, records=mapper.records, mapper=mapper, collate_fn=_join)
    classes = subset_of(cfg.DATASETS.TEST[0]).classes
    evaluators = {
        condition: AVSEvaluator(
            dataset_name=f"{name}, {condition}",
            num_classes=cfg.MODEL.NUM_CLASSES,
            binary=cfg.MODEL.NUM_CLASSES == 2,
            class_names=classes,
            convention=cfg.TEST.CONVENTION,
        )
        for condition in mapper.conditions
    }
    bar = tqdm(loader, desc=f"Scoring {name}", unit="batch", disable=not progress)
    return inference_on_dataset(model, bar, ConditionEvaluator(evaluators))


def _join(batch: list[list[dict]]) -> list[dict]:
    """A batch of clips under all conditions as one list."""
    return list(chain.from_iterable(batch))
