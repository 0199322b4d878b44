"""Where configs are found, and how they are stored with weights."""

import os
from pathlib import Path

import yaml
from detectron2.config import CfgNode as CN

from ska_vct.config import get_cfg
from ska_vct.utils.errors import ConfigError
from ska_vct.utils.imports import bare_names


def find_config(name: str | os.PathLike) -> Path:
    """A config file: a path, or the name of one that comes with the package, e.g. ``ms3/swin_b_384``.

    Args:
        name: a file that exists; else one of the package's configs, with or without ``configs/`` and ``.yaml``.

    Raises:
        ConfigError: there is neither; lists configs of the package.
    """
    path = Path(name)
    if path.is_file():
        return path
    own = Path(path.as_posix().removeprefix("configs/"))
    root = config_folder()
    for candidate in (root / own, root / f"{own}.yaml"):
        if not own.is_absolute() and candidate.is_file():
            return candidate
    names = sorted(
        file.relative_to(root).with_suffix("").as_posix()
        for file in root.glob("*/*.yaml")
        if file.parent.name != "_base_"
        and (not path.stem or file.stem == path.stem or file.parent == root / "synth")
    )
    raise ConfigError(
        f"There is no config file '{name}', nor one of that name in configs/ (e.g. {', '.join(names)})."
    )


def config_folder() -> Path:
    """The folder of the configs that come with the package; in a checkout ``configs/``."""
    package = Path(__file__).resolve().parent
    return next(
        (folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()), package
    )


def cfg_from_text(text: str, *, where: str) -> CN:
    """A config that :func:`portable_config` has written.

    Args:
        text: YAML.
        where: its file, for messages.

    Raises:
        ConfigError: it is not plain YAML, or has keys or values that this version does not know.
    """
    cfg = get_cfg()
    try:
        tree = yaml.safe_load(text)
        cfg.merge_from_other_cfg(CN(tree))
    except (yaml.YAMLError, ValueError, KeyError, AssertionError, TypeError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
    return cfg


def portable_config(cfg: CN) -> str:
    """The config as YAML, without what belongs to this machine: paths, the device, weights to start from."""
    cfg, default = cfg.clone(), get_cfg()
    cfg.defrost()
    for node, fresh in ((cfg.MODEL, default.MODEL), (cfg.MODEL.AUDIO, default.MODEL.AUDIO)):
        node.WEIGHTS = fresh.WEIGHTS
    cfg.MODEL.BACKBONE_WEIGHTS, cfg.MODEL.PRE_MASK.WEIGHTS = "", ""
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = default.MODEL.DEVICE, default.OUTPUT_DIR
    cfg.IMPORTS = bare_names(cfg.IMPORTS)
    cfg.DATASETS.ROOT, cfg.INPUT.FLOW.ROOT, cfg.INPUT.PRE_MASK.ROOT = "", "", ""
    return str(yaml.dump(yaml.safe_load(cfg.dump()), Dumper=_PlainDumper))


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        # Anchors would say which values happen to be one object in memory.
        return True
