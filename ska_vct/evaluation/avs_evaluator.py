"""Scores a model on S4, MS3 or AVSS (spec: metrics.md): accumulate, gather, report."""

import csv
import itertools
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode, configurable
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate
from torch import Tensor

from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.files import atomic_write, write_json

from .boundary import boundary_f
from .conventions import check_convention, clip_scores, reduce_binary, reduce_semantic
from .metrics import BinaryStats, SemanticStats, binary_stats, semantic_stats
from .prediction_files import save_prediction

logger = logging.getLogger(__name__)


class AVSEvaluator(DatasetEvaluator):
    """One evaluator for the three subsets: binary masks (S4, MS3) and class maps (AVSS).

    Only frames that exist and are annotated count. Statistics are kept per clip, on the CPU; a clip that several
    ranks have seen counts once, so that a score depends neither on ranks nor on batches.
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
            dataset_name: for tables and files.
            num_classes: K, background included.
            binary: masks are 0 / 1 and K is 2; scores are M_J and M_F.
            class_names: K names for the table of classes, or nothing.
            convention: ``combo``, ``tpavi`` or ``dataset``; printed with every figure.
            output_dir: where ``results.json``, ``per_clip.csv`` and predictions go; nothing is written when None.
            save_predictions: also write predictions, in AVSBench's layout, to ``{output_dir}/predictions``.
            boundary: also measure boundary F (binary masks only).
            distributed: gather over ranks.

        Raises:
            ValueError: arguments contradict each other.
        """
        check_convention(convention, binary=binary)
        if binary and num_classes != 2:
            raise ValueError(
                f"Binary masks have 2 classes, MODEL.NUM_CLASSES is {num_classes} for '{dataset_name}'."
            )
        if class_names and len(class_names) != num_classes:
            raise ValueError(
                f"'{dataset_name}' names {len(class_names)} classes, MODEL.NUM_CLASSES is {num_classes}."
            )
        if save_predictions and output_dir is None:
            raise ValueError("Saving predictions needs an output folder (OUTPUT_DIR).")
        self._dataset_name = dataset_name
        self._num_classes = num_classes
        self._binary = binary
        self._class_names = tuple(class_names) or tuple(str(i) for i in range(num_classes))
        self._convention = convention
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._save_predictions = save_predictions
        self._boundary = boundary
        self._distributed = distributed
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
        """Arguments from a configuration and from the data set's metadata, which the caller looks up."""
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
        """Forget every clip."""
        self._clips: OrderedDict[str, BinaryStats | SemanticStats] = OrderedDict()

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Count a batch.

        Args:
            inputs: clips as ``structures/clip.py`` describes them, with ``masks`` (T, H, W).
            outputs: one dict per clip with ``sem_seg``, float (T, K, H, W) or only the rows of the frames that
                exist, scores as inference gives them: binary probability is channel 1 of their softmax, class maps
                are their argmax.

        Raises:
            ValueError: naming the clip whose prediction or masks do not fit.
        """
        if len(inputs) != len(outputs):
            raise ValueError(f"The model returned {len(outputs)} results for {len(inputs)} clips.")
        for clip, output in zip(inputs, outputs, strict=True):
            name = clip["clip_id"]
            try:
                self._clips.setdefault(name, self._count(clip, output["sem_seg"].detach()))
            except ValueError as error:
                raise ValueError(f"Clip '{name}' of '{self._dataset_name}': {error}") from error

    def evaluate(self) -> OrderedDict | None:
        """Scores in percent, the same whatever the number of ranks; None on ranks other than the first.

        Returns:
            ``{"sem_seg": {...}}``: for binary masks ``mIoU`` (also called ``M_J``), ``F`` (``M_F``),
            ``false_positive_share`` and ``boundary_F``; for class maps ``mIoU``, ``F``, ``mIoU_no_bg``,
            ``F_no_bg``.

        Raises:
            RuntimeError: there was no clip to score.
        """
        clips = self._gather()
        if clips is None:
            return None
        if not clips:
            raise RuntimeError(
                f"No clip of '{self._dataset_name}' was scored; its split is empty or was not loaded."
            )
        classes = []
        if self._binary:
            scores = reduce_binary(list(clips.values()), self._convention)
            scores = {"mIoU": scores["M_J"], "F": scores["M_F"], **scores}
        else:
            scores, class_iou, class_f = reduce_semantic(list(clips.values()), self._convention)
            classes = [
                {"class": name, "IoU": 100 * iou, "F": 100 * f}
                for name, iou, f in zip(self._class_names, class_iou.tolist(), class_f.tolist(), strict=True)
            ]
        scores = {name: 100 * value for name, value in scores.items()}
        self._log(scores, classes, len(clips))
        if self._output_dir is not None:
            self._write(scores, classes, clips)
        return OrderedDict(sem_seg=scores)

    def _count(self, clip: Mapping, sem_seg: Tensor) -> BinaryStats | SemanticStats:
        exists, masks, annotated = (clip[key].cpu() for key in ("frame_valid", "masks", "mask_valid"))
        if len(sem_seg) == len(exists):
            sem_seg = sem_seg[exists.to(sem_seg.device)]
        masks, annotated = masks[exists], annotated[exists]
        expected = (len(masks), self._num_classes, *masks.shape[1:])
        if tuple(sem_seg.shape) != expected:
            raise ValueError(
                f"the prediction has shape {tuple(sem_seg.shape)}, the masks ask for {expected} "
                "(frames, classes, height, width)."
            )
        if not bool(torch.isfinite(sem_seg).all()):
            raise ValueError("the prediction holds values that are not finite; the model has diverged.")
        prediction = sem_seg.argmax(1)
        prob = sem_seg.float().softmax(1)[:, 1] if self._binary else None
        if self._save_predictions:
            self._save(clip, (prob > 0.5) if self._binary else prediction, exists)

        if not bool(annotated.any()):
            raise ValueError("no frame is annotated, so that there is nothing to score.")
        masks = masks[annotated].to(sem_seg.device)
        if bool(((masks >= self._num_classes) & (masks != IGNORE_LABEL) | (masks < 0)).any()):
            raise ValueError(f"masks hold values that are neither classes 0 to {self._num_classes - 1} nor 255.")
        rows = annotated.to(sem_seg.device)
        if not self._binary:
            stats = semantic_stats(prediction[rows], masks, self._num_classes, ignore_label=IGNORE_LABEL)
        else:
            stats = binary_stats(prob[rows], masks, ignore_label=IGNORE_LABEL)
            if self._boundary:
                stats.boundary = boundary_f(prob[rows] > 0.5, masks == 1)
        return type(stats)(**{key: None if value is None else value.cpu() for key, value in vars(stats).items()})

    def _save(self, clip: Mapping, prediction: Tensor, exists: Tensor) -> None:
        frames = clip.get("frame_index")
        frames = torch.arange(len(exists)) if frames is None else frames.cpu()
        save_prediction(
            self._output_dir / "predictions",
            clip["clip_id"],
            prediction.cpu().numpy(),
            frames[exists].tolist(),
            binary=self._binary,
        )

    def _gather(self) -> OrderedDict | None:
        """Every rank's clips, in rank order, each once; None on ranks other than the first."""
        if not self._distributed or comm.get_world_size() == 1:
            return self._clips
        comm.synchronize()
        parts = comm.gather(self._clips, dst=0)
        if not comm.is_main_process():
            return None
        merged = OrderedDict()
        for name, stats in itertools.chain.from_iterable(part.items() for part in parts):
            merged.setdefault(name, stats)
        return merged

    def _log(self, scores: Mapping, classes: Sequence[Mapping], num_clips: int) -> None:
        # classes first: the line that counts stays in sight
        if classes:
            logger.info("Classes\n" + tabulate(classes, headers="keys", floatfmt=".2f", tablefmt="pipe"))
        table = tabulate([scores], headers="keys", floatfmt=".2f", tablefmt="pipe")
        logger.info(f"{self._dataset_name}: {num_clips} clips, convention '{self._convention}', percent\n{table}")

    def _write(self, scores: Mapping, classes: Sequence[Mapping], clips: Mapping) -> None:
        summary = {
            "dataset": self._dataset_name,
            "convention": self._convention,
            "unit": "percent",
            "num_clips": len(clips),
            "sem_seg": scores,
            "classes": list(classes),
        }
        write_json(self._output_dir / "results.json", summary)
        rows = [
            {"clip_id": name} | {key: f"{100 * value:.4f}" for key, value in clip_scores(stats).items()}
            for name, stats in clips.items()
        ]
        with atomic_write(self._output_dir / "per_clip.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
