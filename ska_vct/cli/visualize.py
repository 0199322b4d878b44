"""``ska-vct-visualize``; ``tools/visualize.py`` in a checkout."""

import argparse
from collections.abc import Sequence

from ska_vct.cli._parser import add_overrides, command_parser, whole_number
from ska_vct.utils.cli import one_sentence_errors

_KINDS = ("sheet", "video", "page")
_DESCRIPTION = """Draw inputs and predictions of a model: contact sheets, videos with audio, pages.

Examples:
    {program} --config configs/synth/quickstart.yaml \\
        --weights output/quickstart/train/model_best.pth --dataset avsbench_ms3_test --num 8 --out output/images
    {program} --config configs/s4/swin_b_384.yaml --weights model_best.pth \\
        --dataset avsbench_s4_test --clips test/dog_barking/abc --out output/images
    {program} --config configs/ms3/swin_b_384.yaml --dataset avsbench_ms3_test \\
        --predictions output/ms3/swin_b_384/inference/avsbench_ms3_test/predictions --out output/images
    {program} --config configs/ms3/swin_b_384.yaml --weights model_best.pth --compare other/model_best.pth \\
        --dataset avsbench_ms3_test --all --save page --out output/gallery

OUT/index.html is a gallery of the clips, sorted by score; its pages open without a server (docs/visualization.md).
Predictions are saved by ska-vct-eval or tools/train_net.py --eval-only, with TEST.SAVE_PREDICTIONS True.
"""


def build_parser(program: str) -> argparse.ArgumentParser:
    """The command's options."""
    parser = command_parser(_DESCRIPTION.format(program=program))
    add = parser.add_argument
    add("--config-file", "--config", required=True, metavar="FILE", help="the model's config, or its name")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="FILE", help="checkpoint; default: MODEL.WEIGHTS of the config")
    source.add_argument("--predictions", metavar="DIR", help="draw saved predictions instead of running the model")
    add("--compare", metavar="FILE", help="second checkpoint, shown beside the first on the pages")
    add("--compare-config", metavar="FILE", help="its config; default: the same")
    add("--dataset", metavar="NAME", help="dataset; default: the first of DATASETS.TEST")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--num", type=whole_number(1), default=8, help="clips, spread over the dataset (default: %(default)s)"
    )
    which.add_argument("--clips", nargs="+", default=[], metavar="ID", help="these clips instead")
    which.add_argument("--all", action="store_true", help="every clip of the dataset")
    add("--out", required=True, metavar="DIR", help="folder for the files")
    add("--save", nargs="+", default=None, choices=_KINDS, help="what to write of each clip (default: all of it)")
    add("--no-video", action="store_true", help="everything but videos")
    add("--num-gpus", type=whole_number(0), default=None, help="0: CPU; default: a GPU if there is one")
    add_overrides(parser)
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = "ska-vct-visualize") -> None:
    """``ska-vct-visualize``."""
    args = build_parser(program).parse_args(arguments)
    with one_sentence_errors():
        from ska_vct.engine.visualize import visualize

        files = visualize(
            args.config_file,
            args.opts,
            out=args.out,
            weights=args.weights,
            predictions=args.predictions,
            compare=args.compare,
            compare_config=args.compare_config,
            dataset=args.dataset,
            clips=args.clips,
            num=None if args.all else args.num,
            save=[kind for kind in args.save or _KINDS if not (args.no_video and kind == "video")],
            num_gpus=args.num_gpus,
        )
        print(f"{files[0]} and {len(files) - 1} more files in {args.out}")


if __name__ == "__main__":
    main()
