"""What TensorBoard shows besides scalars: the config, and images of each evaluation on the validation set."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import TensorboardXWriter, get_event_storage

from ska_vct.evaluation import AVSEvaluator, thresholds
from ska_vct.visualization.score_plots import confusion_figure, precision_recall_figure

from .predictor import ClipPrediction
from .visualize import draw_sheet

# Short side of a frame in TensorBoard, pixels: every evaluation adds some images to the events file.
FRAME_SIDE = 128


class TensorBoardWriter(TensorboardXWriter):
    """Detectron2's writer that also keeps the run's config as text, under ``config``.

    Args:
        folder: of the events file.
        config: the whole config, YAML.
        start: gives, when the first event is written, the iteration from which on earlier events in the folder are
            hidden, because a resumed run writes them again.
    """

    def __init__(self, folder: str, *, config: str, start: Callable[[], int] = lambda: 0) -> None:
        super().__init__(folder)
        self._config = config
        self._start = start

    def write(self) -> None:
        """Write what is new in the event storage, and the config once."""
        if "_writer" not in self.__dict__:
            self._writer_args["purge_step"] = self._start()
        if self._config:
            self._writer.add_text("config", f"```yaml\n{self._config}\n```")
            self._config = ""
        super().write()
        # What metrics.json has, the events have too, however the process ends.
        self._writer.flush()


class ValidationImages(DatasetEvaluator):
    """Scores as the evaluator it wraps, and puts images of the evaluation into the event storage.

    ``clips/{dataset}/{clip_id}`` are contact sheets of some clips; ``curves/{dataset}/precision_recall`` (binary
    masks) and ``curves/{dataset}/confusion`` (AVSS) are of the whole evaluation.

    Args:
        evaluator: scores the clips.
        dataset_name: for the images' names.
        records: of the clips to draw.
    """

    def __init__(self, evaluator: AVSEvaluator, *, dataset_name: str, records: Sequence[Mapping]) -> None:
        self._evaluator = evaluator
        self._dataset_name = dataset_name
        self._records = {record["clip_id"]: dict(record) for record in records}
        self._sheets: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        """Forget every clip."""
        self._evaluator.reset()
        self._sheets = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Count a batch, see ``AVSEvaluator.process``, and draw those of its clips that are wanted."""
        self._evaluator.process(inputs, outputs)
        for clip, output in zip(inputs, outputs, strict=True):
            record = self._records.get(clip["clip_id"])
            if record is not None:
                output = {name: value.detach().float().cpu() for name, value in output.items()}
                self._sheets[clip["clip_id"]] = draw_sheet(
                    ClipPrediction(record, dict(clip), output),
                    class_names=self._evaluator.class_names,
                    evidence=False,
                    max_side=FRAME_SIDE,
                )

    def evaluate(self) -> Mapping | None:
        """The evaluator's scores; the images go into the event storage of the first rank."""
        parts = comm.gather(self._sheets, dst=0)
        results = self._evaluator.evaluate()
        report = self._evaluator.last_report
        if report is None:
            return results
        storage = get_event_storage()
        sheets = {name: sheet for part in parts for name, sheet in part.items()}
        for name in sorted(sheets):
            storage.put_image(f"clips/{self._dataset_name}/{name}", _channels_first(sheets[name]))
        title = f"{self._dataset_name}, iteration {storage.iter + 1}"
        folder = f"curves/{self._dataset_name}"
        if report.precision_recall is not None:
            precision, recall = (values.numpy() for values in report.precision_recall)
            figure = precision_recall_figure(
                precision, recall, thresholds().numpy(), title=f"{title}: means over frames, then over clips"
            )
            storage.put_image(f"{folder}/precision_recall", _channels_first(figure))
        if report.confusion is not None:
            figure = confusion_figure(report.confusion.numpy(), self._evaluator.class_names, title=title)
            storage.put_image(f"{folder}/confusion", _channels_first(figure))
        return results


def spread_records(records: Sequence[Mapping], num: int) -> list[Mapping]:
    """At most ``num`` records, spread evenly over all of them."""
    return [records[round(place)] for place in np.linspace(0, len(records) - 1, min(num, len(records)))]


def _channels_first(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1))
