"""Trains the motion map of an SKA module alone, on ground truth and without images, to show what it can learn.

In the whole model many losses shape the map; here it is supervised directly, on synthetic clips whose objects are
all known. A list of variants has the format of an ablation list (``ablation/plan.py``) and follows its rules: one
file per row and seed, finished runs are skipped, files of other settings are refused.

Shape legend: N frames of a batch, F frames of a split, O objects, g x g motion map.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from tqdm import trange

from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.engine.setup import load_cfg
from ska_vct.modeling.audio.registry import build_audio_encoder
from ska_vct.modeling.motion.ska import build_ska, resize_map
from ska_vct.utils.files import write_json
from ska_vct.utils.folders import make_folder

from ..ablation.plan import Ablation, AblationError, Row, Run, changed_keys, config_keys, plan_runs, read_ablation
from ..ablation.run import read_json
from .clips import StudyClips, load_clips
from .report import RESULT, write_study_tables
from .settings import StudySettings

_EVAL_BATCH = 100
_CLIP_NORM = 1.0
# Keeps the logarithm finite where the map is zero on the entire object.
_TINY = 1e-6


class MapNetwork(nn.Module):
    """An SKA module, with the audio encoder where it reads one."""

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config of the complete model.

        Raises:
            AblationError: SKA is off.
        """
        super().__init__()
        self.ska = build_ska(cfg)
        if self.ska is None:
            raise AblationError("A map-only study needs MODEL.SKA.ENABLED True.")
        self.dim = cfg.MODEL.HIDDEN_DIM
        self.audio_encoder = build_audio_encoder(cfg) if self.ska.reads_audio_grid else None
        if self.audio_encoder is not None and cfg.MODEL.AUDIO.FREEZE:
            raise AblationError("A map-only study trains the audio encoder: set MODEL.AUDIO.FREEZE False.")

    def forward(self, log_mel: Tensor, audio_second: Tensor, flow: Tensor) -> Tensor:
        """(N, 1, 96, 64), (N, 1, 100, 64) and (N, S, 2, h, w) -> motion map (N, 1, g, g) in [0, 1]."""
        if self.audio_encoder is None:
            audio_grid = log_mel.new_zeros(len(log_mel), self.dim, 1, 1)
        else:
            audio_grid = self.audio_encoder(log_mel)
        audio = audio_second if getattr(self.ska, "reads_audio_second", False) else log_mel
        return self.ska(audio_grid, audio, flow).motion_map


def mass_loss(motion_map: Tensor, target: Tensor) -> Tensor:
    """Negative log share of the map that lies on sounding objects.

    Args:
        motion_map: (N, 1, g, g) in [0, 1].
        target: (N, g, g), share of each cell that sounds.

    Returns:
        scalar: mean of -log(share of the map on sounding objects) over frames with a map and a sounding object; 0
        without any.
    """
    motion_map, target = motion_map.flatten(1), target.flatten(1)
    total = motion_map.sum(1)
    usable = (total > 0) & (target.amax(1) > 0)
    share = ((motion_map * target).sum(1) + _TINY) / (total + _TINY)
    return -(share.log() * usable).sum() / usable.sum().clamp(min=1)


def measure(motion_map: Tensor, clips: StudyClips) -> dict[str, float | int | None]:
    """How well a map separates sounding from silent objects.

    Args:
        motion_map: (F, g, g) in [0, 1].
        clips: where the objects are.

    Returns:
        percent, None where nothing can be measured:
            ``first``: frames in which the sounding objects' mean exceeds that of every silent object;
            ``sounding``, ``background``: mean of the map there, over frames in which something sounds;
            ``silent``: mean of the map on silent objects, over frames in which something sounds as well;
        and ``frames`` and ``contested``: frames in which something sounds, and those with a silent object too.
    """
    on = (clips.shares * motion_map[:, None]).sum((2, 3))  # F, O
    area = clips.shares.sum((2, 3))
    sums = clips.sounding.any(1)
    sounding = (on * clips.sounding).sum(1) / (area * clips.sounding).sum(1).clamp(min=_TINY)
    each = on / area.clamp(min=_TINY)
    contested = sums & clips.silent.any(1)
    highest = each.masked_fill(~clips.silent, -1).amax(1)
    silent = (on * clips.silent).sum(1) / (area * clips.silent).sum(1).clamp(min=_TINY)
    rest = 1 - clips.shares.sum(1).clamp(max=1)
    background = (motion_map * rest).sum((1, 2)) / rest.sum((1, 2)).clamp(min=_TINY)
    return {
        "first": _percent(sounding > highest, contested),
        "sounding": _percent(sounding, sums),
        "silent": _percent(silent, contested),
        "background": _percent(background, sums),
        "frames": int(sums.sum()),
        "contested": int(contested.sum()),
    }


def train_map(
    cfg: CfgNode, clips: StudyClips, settings: StudySettings, *, seed: int, progress: bool = True
) -> tuple[MapNetwork, list[float]]:
    """Train a variant's map.

    Args:
        cfg: config of the complete model.
        clips: training clips.
        settings: how.
        seed: of the weights and of the batches' order, which is the same for all variants.
        progress: show a bar.

    Returns:
        the network in inference mode, and the loss of every step; empty if there is nothing to train.

    Raises:
        AblationError: no clip has a visible sounding object.
    """
    torch.manual_seed(seed)
    network = MapNetwork(cfg).train()
    frames = clips.sounding.any(1).nonzero()[:, 0]
    if not len(frames):
        raise AblationError("No visible object sounds in the training clips.")
    parameters = list(network.parameters())
    if not parameters:
        return network.eval(), []
    target = (clips.shares * clips.sounding[:, :, None, None]).sum(1)
    flow = _flow(cfg, clips)
    optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in trange(settings.steps, desc="Training", unit="step", leave=False, delay=1, disable=not progress):
        chosen = frames[torch.randint(len(frames), (settings.batch,), generator=generator)]
        motion_map = resize_map(
            network(clips.log_mel[chosen], clips.audio_second[chosen], flow[chosen]), target.shape[-2:]
        )
        loss = mass_loss(motion_map, target[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return network.eval(), losses


@torch.no_grad()
def predict_maps(cfg: CfgNode, network: MapNetwork, clips: StudyClips) -> Tensor:
    """Maps of all frames on the grid of the objects: (F, g, g)."""
    flow, parts = _flow(cfg, clips), []
    for start in range(0, len(flow), _EVAL_BATCH):
        part = slice(start, start + _EVAL_BATCH)
        motion_map = network(clips.log_mel[part], clips.audio_second[part], flow[part])
        parts.append(resize_map(motion_map, clips.shares.shape[-2:])[:, 0])
    return torch.cat(parts)


def run_study(
    rows_file: str | os.PathLike,
    out: str | os.PathLike,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    variants: Sequence[Sequence[str]] = (),
    settings: StudySettings | None = None,
    table_only: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Run the unfinished part of a study, then write its tables.

    Args:
        rows_file: YAML list of rows, seeds and benchmark.
        out: folder of results and tables.
        rows, seeds: restrict the list to these; None for all.
        variants: further rows, see :func:`with_variants`.
        settings: of the training; None for the defaults.
        table_only: run nothing; tabulate existing results.
        progress: show bars.
        say: called with each line of progress.

    Raises:
        AblationError, ConfigError, DatasetError, TruthError, OSError: the input is invalid; the message says what
            to do.
    """
    study = with_variants(read_ablation(rows_file), variants)
    settings = settings or StudySettings()
    out = make_folder(out)
    if not table_only:
        runs = plan_runs(study, out, rows=rows, seeds=seeds)
        waiting = [run for run in runs if not _is_done(run, settings)]
        say(f"{len(runs) - len(waiting)} of {len(runs)} runs are there.")
        _do_runs(study, waiting, settings, say=say, progress=progress)
    say(write_study_tables(study, out))
    say(f"Tables: {out}")


def with_variants(study: Ablation, variants: Sequence[Sequence[str]]) -> Ablation:
    """A study with further rows, each a name and KEY, VALUE pairs for the baseline's config.

    Raises:
        AblationError: a value has no key, or a name is there already.
    """
    known = {row.name: row for row in study.rows}
    for name, *overrides in variants:
        if name in known or len(overrides) % 2:
            reason = "a row of that name exists" if name in known else f"'{overrides[-1]}' has no partner"
            raise AblationError(f"--variant {name}: {reason}; write a new name and pairs of KEY VALUE.")
        config = known[study.baseline].config
        known[name] = Row(name=name, label=name, config=config, overrides=tuple(overrides))
    return replace(study, rows=tuple(known.values()))


def _do_runs(
    study: Ablation, runs: Sequence[Run], settings: StudySettings, *, say: Callable[[str], None], progress: bool
) -> None:
    if not runs:
        return
    configs = {run.row.name: load_cfg(run.row.config, [*run.row.overrides]) for run in runs}
    first = next(iter(configs.values()))
    options = {"subset": first.DATASETS.SUBSET, "grid": tuple(first.MODEL.SKA.GRID), "progress": progress}
    train = load_clips(study.train_root, "train", limit=settings.train_clips, **options)
    tests = {split: load_clips(study.benchmark / split, "test", **options) for split in study.splits}
    for index, run in enumerate(runs):
        start, cfg = time.monotonic(), configs[run.row.name]
        network, losses = train_map(cfg, train, settings, seed=run.seed, progress=progress)
        result = {
            **_identity(run, settings),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "loss": sum(losses[-20:]) / len(losses[-20:]) if losses else None,
            "splits": {name: measure(predict_maps(cfg, network, clips), clips) for name, clips in tests.items()},
            "seconds": round(time.monotonic() - start, 1),
        }
        write_json(run.folder / RESULT, result)
        first = ", ".join(f"{name} {values['first']:.1f}" for name, values in result["splits"].items())
        say(f"{run.name}: sounding object first in % of frames: {first} ({index + 1} of {len(runs)})")


def _is_done(run: Run, settings: StudySettings) -> bool:
    found = read_json(run.folder / RESULT)
    if found is None:
        return False
    wanted = _identity(run, settings)
    changed = [*changed_keys(found["keys"], wanted["keys"])]
    changed += [key for key, value in wanted["settings"].items() if found["settings"].get(key) != value]
    if changed:
        raise AblationError(
            f"{run.folder / RESULT} was made with other values of {', '.join(changed[:4])}; choose another --out, "
            "or remove the file."
        )
    return True


def _identity(run: Run, settings: StudySettings) -> Mapping[str, Any]:
    return {"row": run.row.name, "seed": run.seed, "keys": config_keys(run.row), "settings": asdict(settings)}


def _flow(cfg: CfgNode, clips: StudyClips) -> Tensor:
    return clips.flow(ClipMapper.from_config(cfg, is_train=False)["flow"], tuple(cfg.INPUT.SIZE))


def _percent(values: Tensor, chosen: Tensor) -> float | None:
    return 100 * values[chosen].double().mean().item() if chosen.any() else None
