"""Parameters and FLOPs of the paper's configs, stored in ``configs/complexity.json`` to detect changes."""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ska_vct.engine.setup import load_cfg
from ska_vct.utils.files import write_json

from .report import cost_report

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
GOLDEN = CONFIGS / "complexity.json"
# Suffix of entries whose config is counted with the pre-mask encoder disabled.
WITHOUT_PRE_MASKS = " without pre-masks"
PAPER_CONFIGS = tuple(
    f"{subset}/{form}"
    for subset in ("s4", "ms3", "avss")
    for form in ("swin_b_384", f"swin_b_384{WITHOUT_PRE_MASKS}", "pvtv2_b5", "r50")
)


def complexity(name: str) -> dict[str, Any]:
    """Rows of ``cost_report`` by part, for one frame of an entry of ``PAPER_CONFIGS``, e.g. ``s4/r50``."""
    overrides = ["MODEL.PRE_MASK.ENABLED", "False"] if name.endswith(WITHOUT_PRE_MASKS) else []
    cfg = load_cfg(CONFIGS / f"{name.removesuffix(WITHOUT_PRE_MASKS)}.yaml", overrides)
    return cost_report(cfg, 1)["parts"]


def read_golden() -> dict[str, Any]:
    """Contents of ``configs/complexity.json``."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def write_golden() -> Path:
    """Recount all ``PAPER_CONFIGS`` and write ``configs/complexity.json``."""
    write_json(GOLDEN, {name: complexity(name) for name in tqdm(PAPER_CONFIGS, desc="Counting", unit="config")})
    return GOLDEN
