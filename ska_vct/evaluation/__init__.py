"""Scores: pure functions (metrics, boundary, conventions), and the evaluator that accumulates and reports them."""

from .avs_evaluator import AVSEvaluator
from .boundary import boundary_f
from .coco_files import load_coco
from .conventions import CONVENTIONS, class_sums, reduce_binary, reduce_semantic
from .metrics import binary_stats, f_measure, mask_iou, semantic_stats, thresholds
from .prediction_files import load_prediction, save_prediction

__all__ = [
    "CONVENTIONS",
    "AVSEvaluator",
    "binary_stats",
    "boundary_f",
    "class_sums",
    "f_measure",
    "load_coco",
    "load_prediction",
    "mask_iou",
    "reduce_binary",
    "reduce_semantic",
    "save_prediction",
    "semantic_stats",
    "thresholds",
]
