"""Builds a frozen, consistent configuration from a config file and overrides."""

import difflib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import detectron2.utils.comm as comm
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from ska_vct.config import get_cfg
from ska_vct.config_files import find_config
from ska_vct.config_values import check_value, check_values, shorten
from ska_vct.modeling import AUDIO_ENCODER_REGISTRY, LOSS_REGISTRY, SKA_REGISTRY
from ska_vct.utils.bounded_yaml import parse_yaml
from ska_vct.utils.cpu import compute_on_cpu
from ska_vct.utils.errors import ConfigError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder
from ska_vct.utils.imports import KEY as IMPORTS_KEY
from ska_vct.utils.imports import import_modules

from .checks import check_cfg
from .datasets import register_datasets, resolve_root
from .environment import code_version, command_line, environment_text

_LOGGER = logging.getLogger(__name__)
BASE_KEY = "_BASE_"
# Loggers whose messages are the same in every run.
_QUIET = {"detectron2.data.common": logging.WARNING, "torch.utils.cpp_extension": logging.ERROR}


# Keys whose values are names in a registry.
_REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.AUDIO.NAME": AUDIO_ENCODER_REGISTRY,
    "MODEL.SKA.NAME": SKA_REGISTRY,
    "MODEL.LOSSES": LOSS_REGISTRY,
}


def setup_cfg(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    num_gpus: int | None = None,
    eval_only: bool = False,
    resume: bool = False,
    convention: str | None = None,
) -> CfgNode:
    """The configuration of a run, checked and frozen; its datasets are registered.

    Args:
        config_file: path or name of a config; empty for the defaults.
        overrides: KEY, VALUE, ...
        num_gpus: 0 for the CPU; None for a GPU if there is one.
        eval_only: the run scores and does not train.
        resume: it continues from the output folder's last checkpoint, if there is one.
        convention: replaces ``TEST.CONVENTION``.

    Raises:
        ConfigError: unknown keys or values of the wrong type.
        CheckError: parts that contradict each other, unknown datasets.
    """
    cfg = load_cfg(config_file, overrides)
    if convention:
        cfg.TEST.CONVENTION = convention
    if not cfg.MODEL.PRETRAINED:
        _train_from_scratch(cfg)
    if cfg.OUTPUT_DIR == get_cfg().OUTPUT_DIR and config_file:
        path = Path(config_file)
        cfg.OUTPUT_DIR = os.path.join("output", path.parent.name, path.stem)
    if num_gpus == 0 or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.ROOT = str(resolve_root(cfg))
    register_datasets(cfg)
    has_checkpoint = os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    check_cfg(cfg, eval_only=eval_only, resume=resume and has_checkpoint)
    cfg.freeze()
    return cfg


def _train_from_scratch(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE_WEIGHTS = cfg.MODEL.PRE_MASK.WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = ""
    cfg.MODEL.AUDIO.FREEZE = False


def prepare_run(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Create the output folder with ``config.yaml`` and ``environment.txt``, start logging, seed everything.

    Args:
        cfg: of :func:`setup_cfg`.
        eval_only: the run scores and does not train.

    Raises:
        OSError: the folder cannot be written.
    """
    rank = comm.get_rank()
    folder = make_folder(cfg.OUTPUT_DIR) if comm.is_main_process() else Path(cfg.OUTPUT_DIR)
    comm.synchronize()
    for name in ("fvcore", "detectron2", "ska_vct"):
        setup_logger(str(folder), distributed_rank=rank, name=name)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    if comm.is_main_process():
        with atomic_write(folder / "config.yaml", "w") as file:
            file.write(f"# {code_version()}\n# {ascii(command_line())[1:-1]}\n{cfg.dump()}")
        with atomic_write(folder / "environment.txt", "w") as file:
            file.write(environment_text())
        _LOGGER.info(f"{code_version()}; command: {command_line()}")
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if cfg.MODEL.DEVICE == "cpu":
        compute_on_cpu()
    if not eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


def load_cfg(
    path: str | os.PathLike = "", overrides: Sequence[str] | None = None, *, trusted: bool = True
) -> CfgNode:
    """Defaults, then the file and its bases, then ``KEY VALUE`` pairs; not frozen, device and data not checked.

    The modules that ``IMPORTS`` names are imported, from the file's folder, the current folder or PYTHONPATH.

    Args:
        path: the file; empty for the defaults.
        overrides: KEY, VALUE, ...
        trusted: whether modules that the file names may be imported. A config that was stored in a checkpoint is
            data, and importing runs code: pass False, and only modules named by ``overrides`` are imported.

    Raises:
        ConfigError: a file is missing or not YAML, a key is unknown, or a value is not allowed
            (:mod:`ska_vct.config_values`).
        InputError: a module cannot be imported, see :func:`ska_vct.utils.imports.import_modules`.
    """
    cfg = get_cfg()
    if path:
        path = find_config(path)
        for file in _base_files(Path(path)):
            _check_keys(_read_yaml(file), cfg, where=str(file))
        loaded = CfgNode.load_yaml_with_base(str(path), allow_unsafe=False)
        try:
            cfg.merge_from_other_cfg(CfgNode(_as_floats(loaded, cfg)))
        except (ValueError, KeyError, AssertionError) as error:
            raise ConfigError(f"{path}: {_plain(error)}") from None
    if overrides:
        _merge_overrides(cfg, list(overrides))
    check_value(IMPORTS_KEY, cfg.IMPORTS)
    if trusted or IMPORTS_KEY in (overrides or ())[::2]:
        folders = [Path(path).parent, Path.cwd()] if path and trusted else [Path.cwd()]
        cfg.IMPORTS = import_modules(cfg.IMPORTS, folders=folders)
    elif cfg.IMPORTS:
        _LOGGER.warning(
            f"{path}: the config comes with a checkpoint, so the modules it names are not imported: "
            f'{", ".join(cfg.IMPORTS)}. If you trust them, name them yourself: {IMPORTS_KEY} "{cfg.IMPORTS}".'
        )
    check_values(cfg, {key: {name for name, _ in registry} for key, registry in _REGISTRIES.items()})
    return cfg


def chosen_keys(path: str | os.PathLike = "", overrides: Sequence[str] | None = None) -> set[str]:
    """Names of the keys that a config file sets itself, not through its bases, and that the command line sets."""
    own = _read_yaml(Path(find_config(path))) if path else {}
    return {*_leaf_names(own), *(overrides or ())[::2]}


def _merge_overrides(cfg: CfgNode, overrides: list[str]) -> None:
    if len(overrides) % 2:
        raise ConfigError(
            f"Command line: overrides are KEY VALUE pairs, but {shorten(repr(overrides[-1]))} has no partner."
        )
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        *parents, last = key.split(".")
        tree: dict[str, Any] = {last: CfgNode._decode_cfg_value(value)}
        for parent in reversed(parents):
            tree = {parent: tree}
        _check_keys(tree, cfg, where="Command line")
        node = cfg
        for parent in parents:
            node = node[parent]
        # yacs does not accept 1 for 1.0.
        if isinstance(node.get(last), float) and value.lstrip("+-").isdigit():
            value = f"{value}.0"
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, KeyError, AssertionError) as error:
            raise ConfigError(f"Command line: {_plain(error)}") from None


def _plain(error: Exception) -> str:
    # yacs: Type mismatch (<class 'bool'> vs. <class 'int'>) with values (True vs. 12) for config key: MODEL.X
    found = re.search(
        r"\(<class '(\w+)'> vs\. <class '(\w+)'>\) with values .* vs\. (.*)\) .*key: (\S+)", str(error)
    )
    if found is None:
        return shorten(" ".join(str(error).split()))
    return f"{found[4]} takes a value of type {found[1]}, not the {found[2]} {shorten(found[3])}."


def _read_yaml(path: Path) -> dict:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no config file '{path}', which another config names as its base.") from None
    # ValueError: text that is not UTF-8, a path or a date that cannot be.
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{str(path)[:200]!a} cannot be read as plain YAML: {' '.join(str(error).split())[:300]}."
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no keys; a config is a YAML mapping.")
    return content


def _base_files(path: Path, above: tuple[Path, ...] = ()) -> Iterable[Path]:
    """``path`` and all files it builds upon, each after its bases."""
    if path.resolve() in above:
        raise ConfigError(f"{path} is its own base.")
    bases = _read_yaml(path).get(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and "\0" not in base for base in bases):
        raise ConfigError(
            f"{path}: {BASE_KEY} is {str(bases)[:40]!a}, expected the path of a config, or a list of them."
        )
    for base in bases:
        yield from _base_files(path.parent / base, (*above, path.resolve()))
    yield path


def _check_keys(tree: Mapping, node: CfgNode, *, where: str, prefix: str = "") -> None:
    if node.is_new_allowed():
        return
    for key, value in tree.items():
        if not prefix and key == BASE_KEY:
            continue
        name = f"{prefix}{key}"
        if key not in node:
            near = _suggestion(name, node, prefix)
            raise ConfigError(f"{where}: there is no config key {shorten(repr(name))}{near}.")
        if isinstance(node[key], CfgNode) != isinstance(value, Mapping):
            kind = "a group of keys" if isinstance(node[key], CfgNode) else "a single value"
            raise ConfigError(f"{where}: '{name}' is {kind}, found {shorten(repr(value))}.")
        if isinstance(value, Mapping):
            _check_keys(value, node[key], where=where, prefix=f"{name}.")


def _suggestion(name: str, node: CfgNode, prefix: str) -> str:
    names = list(_leaf_names(get_cfg()))
    last = name.rsplit(".", 1)[-1]
    # The right key under another parent, e.g. MODEL.NUM_QUERIES for MODEL.DECODER.NUM_QUERIES.
    near = [full for full in names if full.rsplit(".", 1)[-1] == last][:3]
    near = near or difflib.get_close_matches(name, [f"{prefix}{key}" for key in node], n=3, cutoff=0.8)
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}" if near else ""


def _leaf_names(node: Mapping, prefix: str = "") -> Iterable[str]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaf_names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _as_floats(tree: Mapping, node: Mapping) -> dict:
    """YAML reads ``1e-4`` as text and ``1`` as an integer: make them floats where the default is one."""
    result = {}
    for key, value in tree.items():
        default = node.get(key)
        if isinstance(value, Mapping):
            value = _as_floats(value, default if isinstance(default, Mapping) else {})
        elif isinstance(default, float) and isinstance(value, int | str) and not isinstance(value, bool):
            try:
                value = float(value)
            except ValueError:
                pass  # yacs names the key and both types
        result[key] = value
    return result
