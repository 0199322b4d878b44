"""Scores a model on S4, MS3 or AVSS (docs/scores.md): accumulate, gather, report."""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode, configurable
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.errors import InputError

from .boundary import boundary_f
from .coco_files import encode_frames, write_coco
from .conventions import TPAVI_FRAMES, check_convention
from .metrics import BinaryStats, SemanticStats, binary_stats, semantic_stats
from .objects import count_objects, map_means
from .prediction_files import save_prediction
from .report import ScoreReport
from .report_files import write_report
from .report_tables import describe

logger = logging.getLogger(__name__)


class AVSEvaluator(DatasetEvaluator):
    """One evaluator for the three subsets: binary masks (S4, MS3) and class maps (AVSS).

    Only existing, annotated frames count. Statistics are kept per clip on the CPU, and a clip processed by several
    ranks counts once, so that scores depend neither on ranks nor on batches.

    Attributes:
        class_names: K names, background included; class indices if the dataset has no names.
        last_report: latest report of ``evaluate``; None before that, and on ranks other than the first.
    """

    @configurable
    def __init__(
        self,
        *,
        dataset_name: str,
        num_classes: int,
        binary: bool,
        class_names: Sequence[str] = (),
        convention: str = "combo",
        output_dir: str | Path | None = None,
        save_predictions: bool = False,
        boundary: bool = True,
        distributed: bool = True,
    ) -> None:
        """
        Args:
            dataset_name: name printed in tables and files.
            num_classes: K, background included.
            binary: masks are 0 / 1 and K is 2; scores are M_J and M_F.
            class_names: K names for the class table; if empty, class indices are used.
            convention: ``combo``, ``tpavi``, ``dataset`` or ``pooled``: selects the scores that are returned;
                reports contain all of them.
            output_dir: folder for the files of ``report_files.py`` and predictions; None to write nothing.
            save_predictions: also write predictions, as PNG files in AVSBench's layout to
                ``{output_dir}/predictions`` and as COCO's run lengths to ``{output_dir}/predictions_coco.json``.
            boundary: also measure boundary F (binary masks only).
            distributed: gather over ranks.

        Raises:
            InputError: the arguments are inconsistent.
        """
        check_convention(convention)
        if binary and num_classes != 2:
            raise InputError(
                f"Binary masks have 2 classes, but MODEL.NUM_CLASSES is {num_classes} for '{dataset_name}'."
            )
        if class_names and len(class_names) != num_classes:
            raise InputError(
                f"'{dataset_name}' names {len(class_names)} classes, but MODEL.NUM_CLASSES is {num_classes}."
            )
        if save_predictions and output_dir is None:
            raise InputError("Saving predictions needs an output folder (OUTPUT_DIR).")
        self._dataset_name = dataset_name
        self._num_classes = num_classes
        self._binary = binary
        self.class_names = tuple(class_names) or tuple(str(i) for i in range(num_classes))
        self._convention = convention
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._save_predictions = save_predictions
        self._boundary = boundary
        self._distributed = distributed
        self.last_report: ScoreReport | None = None
        self.reset()

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        *,
        dataset_name: str,
        class_names: Sequence[str] = (),
        binary: bool | None = None,
        output_dir: str | Path | None = None,
    ) -> dict:
        """Arguments from a config and from the dataset's metadata, which the caller looks up."""
        return {
            "dataset_name": dataset_name,
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "binary": cfg.MODEL.NUM_CLASSES == 2 if binary is None else binary,
            "class_names": class_names,
            "convention": cfg.TEST.CONVENTION,
            "save_predictions": cfg.TEST.SAVE_PREDICTIONS,
            "output_dir": output_dir,
        }

    def reset(self) -> None:
        """Discard the statistics of all clips."""
        self._clips: OrderedDict[str, BinaryStats | SemanticStats] = OrderedDict()
        self._encoded: dict[str, list[dict]] = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Count a batch.

        Args:
            inputs: clips as described in ``structures/clip.py``, with ``masks`` (T, H, W).
            outputs: one dict per clip with ``sem_seg``, the scores of inference, float (T, K, H, W) or only the
                rows of existing frames: their softmax's channel 1 is the binary probability, their argmax the
                class map; or, for saved predictions, with ``labels``, integers (T, H, W).

        Raises:
            InputError: a prediction or mask has the wrong shape or values; the message names the clip.
        """
        if len(inputs) != len(outputs):
            raise ValueError(f"The model returned {len(outputs)} results for {len(inputs)} clips.")
        for clip, output in zip(inputs, outputs, strict=True):
            name = clip["clip_id"]
            try:
                self._clips.setdefault(name, self._count(clip, output))
            except ValueError as error:
                raise InputError(f"Clip '{name}' of '{self._dataset_name}': {error}") from error

    def evaluate(self) -> OrderedDict | None:
        """Scores in percent, independent of the number of ranks; None on ranks other than the first.

        Returns:
            ``sem_seg``: scores in the chosen convention; for binary masks ``mIoU`` (also called ``M_J``), ``F``
            (``M_F``), ``false_positive_share`` and ``boundary_F``; for class maps ``mIoU``, ``F``, ``mIoU_no_bg``,
            ``F_no_bg``. ``combo_percent``, ``tpavi_percent`` and so on: IoU and F in each convention, so that logs
            of these results name convention and unit.

        Raises:
            RuntimeError: there was no clip to score.
        """
        reported = self.report()
        if reported is None:
            return None
        report, clips = reported
        self.last_report = report
        if self._output_dir is not None:
            write_report(report, clips, self._output_dir)
            logger.info(f"{report.dataset}: scores of all classes and clips are in {self._output_dir}")
        logger.info(describe(report))
        named = {f"{name}_percent": _headline(scores) for name, scores in report.conventions.items()}
        return OrderedDict(sem_seg=report.scores, **named)

    def report(self) -> tuple[ScoreReport, OrderedDict] | None:
        """Scores in every convention, and each clip's counts; None on ranks other than the first.

        Writes the saved predictions of all clips as one file, and nothing else.

        Raises:
            RuntimeError: there was no clip to score.
        """
        gathered = self._gather()
        if gathered is None:
            return None
        clips, encoded = gathered
        if not clips:
            raise RuntimeError(
                f"No clip of '{self._dataset_name}' was scored; its split is empty or was not loaded."
            )
        if self._save_predictions:
            frames = itertools.chain.from_iterable(encoded[name] for name in clips)
            write_coco(self._output_dir / "predictions_coco.json", frames, self.class_names)
        report = ScoreReport.of(
            clips, dataset=self._dataset_name, convention=self._convention, class_names=self.class_names
        )
        return report, clips

    def _count(self, clip: Mapping, output: Mapping) -> BinaryStats | SemanticStats:
        exists, masks, annotated = (clip[key].cpu() for key in ("frame_valid", "masks", "mask_valid"))
        masks, annotated = _rows(masks, exists), annotated[exists]
        prediction, prob = self._prediction(output, exists, tuple(masks.shape[1:]))
        if self._save_predictions:
            self._save(clip, prediction, exists)

        if not bool(annotated.any()):
            raise InputError("no frame is annotated; there is nothing to score.")
        masks = _rows(masks, annotated).to(prediction.device)
        low, high = masks.aminmax()
        if high >= self._num_classes:
            high = masks.where(masks != IGNORE_LABEL, 0).max()
        if low < 0 or high >= self._num_classes:
            raise InputError(
                f"masks contain values that are neither classes 0 to {self._num_classes - 1} nor 255."
            )
        prediction = _rows(prediction, annotated)
        if not self._binary:
            stats = semantic_stats(prediction, masks, self._num_classes, ignore_label=IGNORE_LABEL)
            stats.blank = max(0, TPAVI_FRAMES - int(exists.sum()))
        else:
            stats = binary_stats(_rows(prob, annotated), masks, ignore_label=IGNORE_LABEL)
            stats.from_masks = "sem_seg" not in output
            if self._boundary:
                stats.boundary = boundary_f(prediction, masks == 1)
        if clip.get("object_groups") is not None:
            groups = _rows(_rows(clip["object_groups"].cpu(), exists), annotated)
            stats.objects = count_objects(prediction != 0, groups)
            if output.get("motion_map") is not None:
                motion_map = _rows(_rows(output["motion_map"].detach(), exists), annotated)
                stats.map_means = map_means(motion_map, groups)
        stats.frame_index = _frame_index(clip)[exists][annotated]
        return type(stats)(
            **{key: value.cpu() if isinstance(value, Tensor) else value for key, value in vars(stats).items()}
        )

    def _prediction(self, output: Mapping, exists: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Class per pixel and, for binary masks, foreground probability; (T, H, W), existing frames only."""
        is_saved = "sem_seg" not in output
        values = torch.as_tensor(output["labels"]) if is_saved else output["sem_seg"].detach()
        if len(values) == len(exists):
            values = _rows(values, exists)
        expected = (int(exists.sum()), *(() if is_saved else (self._num_classes,)), *size)
        if tuple(values.shape) != expected:
            raise InputError(
                f"the prediction has shape {tuple(values.shape)}, but the masks require {expected} "
                f"(frames, {'' if is_saved else 'classes, '}height, width)."
            )
        if is_saved:
            return values, values.float() if self._binary else None
        # aminmax propagates NaN.
        if not bool(torch.isfinite(torch.stack(values.aminmax())).all()):
            raise InputError("the prediction holds values that are not finite; the model has diverged.")
        if not self._binary:
            return values.argmax(1), None
        prob = values.float().softmax(1)[:, 1]
        return prob > 0.5, prob

    def _save(self, clip: Mapping, prediction: Tensor, exists: Tensor) -> None:
        frames = _frame_index(clip)[exists].tolist()
        labels, name = prediction.cpu().numpy(), clip["clip_id"]
        save_prediction(self._output_dir / "predictions", name, labels, frames, binary=self._binary)
        self._encoded[name] = encode_frames(name, labels, frames, binary=self._binary)

    def _gather(self) -> tuple[OrderedDict, dict] | None:
        """Clips and predictions of all ranks, in rank order, each once; None on ranks other than the first."""
        if not self._distributed or comm.get_world_size() == 1:
            return self._clips, self._encoded
        comm.synchronize()
        parts = comm.gather((self._clips, self._encoded), dst=0)
        if not comm.is_main_process():
            return None
        merged, encoded = OrderedDict(), {}
        for clips, predictions in parts:
            for name, stats in clips.items():
                merged.setdefault(name, stats)
            encoded.update(predictions)
        return merged, encoded


def _headline(scores: Mapping[str, float]) -> dict[str, float]:
    """M_J and M_F, or mIoU and F with and without background."""
    names = ("M_J", "M_F") if "M_J" in scores else ("mIoU", "F", "mIoU_no_bg", "F_no_bg")
    return {name: scores[name] for name in names}


def _frame_index(clip: Mapping) -> Tensor:
    """int64 (T,), the second that each frame stands for; on the CPU."""
    index = clip.get("frame_index")
    return torch.arange(len(clip["frame_valid"])) if index is None else index.cpu()


def _rows(values: Tensor, keep: Tensor) -> Tensor:
    """``values[keep]``, without a copy when all are kept; ``keep`` is on the CPU."""
    return values if bool(keep.all()) else values[keep.to(values.device)]
