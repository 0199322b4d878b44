"""``ska-vct-predict``; ``tools/predict.py`` in a checkout."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ska_vct.cli._parser import DEMO_WEIGHTS, command_parser, whole_number
from ska_vct.utils.cli import one_sentence_errors

if TYPE_CHECKING:
    from ska_vct.engine.predictor import Predictor

_DESCRIPTION = """Segment what sounds in videos: masks, an overlay video with the audio, scores per second, a page.

Examples:
    {program} --out output/predict video.mp4
    {program} --weights model_best.pth --out output/predict video.mp4
    {program} --weights model_best.pth --out output/predict my_videos --threshold 0.3 --save overlay
    {program} --weights vct_s4.pth --config s4/swin_b_384 --out output/predict clips/dog
    {program} --weights model_best.pth --out output/masks --dataset avsbench_ms3_test --num 8 \\
        --set DATASETS.ROOT datasets

Give videos, folders of videos, or folders with one image per second (frame_1.png, frame_2.png, ...) and one audio
file. OUT/index.html shows the results; OUT/<video>/ holds overlay.mp4, sheet.jpg, scores.csv, masks.json and the
masks: <video>_<frame>.png of 0 and 255 or, with more classes, labels_semantic/<frame>.png of class indices. The
same command goes on where a stopped run was. The config is read from the checkpoint. docs/predict.md has more.
"""


def build_parser(program: str) -> argparse.ArgumentParser:
    """The command's options."""
    parser = command_parser(_DESCRIPTION.format(program=program))
    add = parser.add_argument
    # fmt: off
    add("videos", nargs="*", metavar="VIDEO_OR_FOLDER",
        help="videos, folders of videos, folders of frames with audio")
    add("--weights", default=DEMO_WEIGHTS, metavar="FILE",
        help="checkpoint, folder of save_pretrained, name on Hugging Face's hub, or an address; default: the "
        "small model that comes with the package (%(default)s)")
    add("--config-file", "--config", default=None, metavar="FILE",
        help="its config, or the config's name; default: the one stored with the weights")
    add("--out", required=True, metavar="DIR", help="folder for the results")
    add("--fps", type=float, default=1.0, help="frames per second to segment (default: %(default)s)")
    add("--size", type=int, nargs="+", metavar="PX", help="side, or height and width, of the network's input")
    add("--batch", type=whole_number(1), default=1, metavar="N",
        help="clips per call of the model (default: %(default)s)")
    add("--threshold", type=float, metavar="P",
        help="masks where the score exceeds P, 0 to 1; default: the model's own (TEST.THRESHOLD of its config), "
        "or the highest score's class, as in the papers")
    add("--classes", nargs="+", default=[], metavar="NAME", help="segment these classes only")
    add("--save", default="masks,overlay,json,sheet", metavar="LIST", help="what to write (default: %(default)s)")
    add("--heat", action="store_true", help="draw scores instead of masks in the overlay")
    add("--no-audio", action="store_true", help="take silence for videos without an audio track")
    add("--flow", metavar="METHOD", help="dis, farneback, raft_large or raft_small; default: INPUT.FLOW.METHOD")
    add("--flow-weights", default="", metavar="FILE",
        help="RAFT's weights; default: torchvision's, downloaded once")
    add("--device", default=None, metavar="NAME", help="cpu, cuda, ...; default: a GPU if there is one")
    add("--amp", action="store_true", help="run the model in bfloat16")
    add("--dataset", metavar="NAME", help="write masks of this dataset instead, e.g. avsbench_ms3_test")
    add("--ids", nargs="+", default=[], metavar="ID", help="these clips of the dataset; default: all")
    add("--num", type=whole_number(1), default=None, help="at most so many of them, spread over the dataset")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="changes to the config")
    # fmt: on
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = "ska-vct-predict") -> None:
    """``ska-vct-predict``."""
    parser = build_parser(program)
    args = parser.parse_args(arguments)
    if bool(args.videos) == bool(args.dataset):
        parser.error("name videos, or a dataset with --dataset")
    if args.size and len(args.size) > 2:
        parser.error("--size takes a side, or height and width")
    with one_sentence_errors(interrupted="run the same command again: it goes on where it stopped"):
        from ska_vct.engine.predict import predict_dataset
        from ska_vct.engine.predictor import Predictor

        predictor = Predictor.from_pretrained(args.weights, args.config_file, args.device, overrides=args.set)
        if args.dataset:
            names = predict_dataset(predictor, args.dataset, args.out, clip_ids=args.ids, num=args.num)
            print(f"Masks of {len(names)} clips in {args.out}")
            return
        failed = _segment(predictor, args)
    if failed:
        sys.exit(1)


def _segment(predictor: "Predictor", args: argparse.Namespace) -> int:
    """Segment the videos and say what became of them; returns how many failed."""
    from ska_vct.engine.segment.batch import segment_paths
    from ska_vct.engine.segment.outputs import OutputOptions
    from ska_vct.engine.segment.stream import SegmentOptions

    size = None if args.size is None else args.size[0] if len(args.size) == 1 else tuple(args.size)
    options = SegmentOptions(
        fps=args.fps,
        threshold=args.threshold,
        classes=tuple(args.classes),
        size=size,
        batch=args.batch,
        flow=args.flow,
        flow_weights=args.flow_weights,
        amp=args.amp,
        no_audio=args.no_audio,
    )
    output = OutputOptions(save=tuple(filter(None, args.save.split(","))), heat=args.heat)
    reports = segment_paths(predictor, args.videos, args.out, options, output)
    for report in reports:
        for remark in report.remarks:
            print(f"note: {remark}")
        if report.error:
            print(f"failed: {report.error}")
    failed = sum(bool(report.error) for report in reports)
    kept = sum(report.kept for report in reports)
    there = f" ({kept} were there already)" if kept else ""
    print(f"{len(reports) - failed} of {len(reports)} videos segmented{there}; see {args.out}/index.html")
    return failed


if __name__ == "__main__":
    main()
