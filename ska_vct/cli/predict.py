"""``ska-vct-predict``; ``tools/predict.py`` in a checkout."""

import argparse
from collections.abc import Sequence

from ska_vct.cli._parser import command_parser, whole_number
from ska_vct.utils.cli import one_sentence_errors

_DESCRIPTION = """Segment clips with a trained model: one mask per second.

Examples:
    {program} --weights model_best.pth --out output/masks clips/dog clips/train.mp4
    {program} --weights model_best.pth --out output/masks --dataset avsbench_ms3_test --num 8 \\
        --set DATASETS.ROOT datasets
    {program} --weights vct_s4.pth --config s4/swin_b_384 --out output/masks clips/dog

A clip is a folder with one image per second (frame_1.png, frame_2.png, ...) and one audio file, or a video with an
audio track. Optical flow is computed from the video; of a folder only between its frames, which lie a second apart
and show less. Masks go to OUT/<clip>/<clip>_<second>.png, 0 and 255, or with more classes to
OUT/<clip>/labels_semantic/<second>.png, class indices. The config is read from the checkpoint.
"""


def build_parser(program: str) -> argparse.ArgumentParser:
    """The command's options."""
    parser = command_parser(_DESCRIPTION.format(program=program))
    add = parser.add_argument
    # fmt: off
    add("clips", nargs="*", metavar="CLIP", help="folders of frames with audio, or video files")
    add("--weights", required=True, metavar="FILE",
        help="checkpoint, folder of save_pretrained, name on Hugging Face's hub, or an address")
    add("--config-file", "--config", default=None, metavar="FILE",
        help="its config, or the config's name; default: the one stored with the weights")
    add("--out", required=True, metavar="DIR", help="folder for the masks")
    add("--dataset", metavar="NAME", help="predict clips of this dataset, e.g. avsbench_ms3_test")
    add("--ids", nargs="+", default=[], metavar="ID", help="these clips of the dataset; default: all")
    add("--num", type=whole_number(1), default=None, help="at most so many of them, spread over the dataset")
    add("--device", default=None, metavar="NAME", help="cpu, cuda, ...; default: a GPU if there is one")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="changes to the config")
    # fmt: on
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = "ska-vct-predict") -> None:
    """``ska-vct-predict``."""
    parser = build_parser(program)
    args = parser.parse_args(arguments)
    if bool(args.clips) == bool(args.dataset):
        parser.error("name clips, or a dataset with --dataset")
    with one_sentence_errors():
        from ska_vct.engine.predict import predict_dataset, predict_paths
        from ska_vct.engine.predictor import Predictor

        predictor = Predictor.from_pretrained(args.weights, args.config_file, args.device, overrides=args.set)
        if args.dataset:
            names = predict_dataset(predictor, args.dataset, args.out, clip_ids=args.ids, num=args.num)
        else:
            names = predict_paths(predictor, args.clips, args.out)
        print(f"Masks of {len(names)} clips in {args.out}")


if __name__ == "__main__":
    main()
