"""Scores: pure functions (metrics, boundary, conventions), and the evaluator that accumulates and reports them."""

from ska_vct.utils.lazy import lazy_names

_HOMES = {
    "AVSEvaluator": "avs_evaluator",
    "CONVENTIONS": "names",
    "binary_stats": "metrics",
    "boundary_f": "boundary",
    "class_sums": "conventions",
    "f_measure": "metrics",
    "load_coco": "coco_files",
    "load_prediction": "prediction_files",
    "mask_iou": "metrics",
    "reduce_binary": "conventions",
    "reduce_semantic": "conventions",
    "save_prediction": "prediction_files",
    "semantic_stats": "metrics",
    "thresholds": "metrics",
}
__all__ = [*_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
