"""``ska-vct-demo``; ``tools/demo_app.py`` in a checkout."""

from argparse import ArgumentParser
from collections.abc import Sequence

from ska_vct.cli._parser import DEMO_WEIGHTS, command_parser, whole_number
from ska_vct.utils.cli import one_sentence_errors

_DESCRIPTION = """Show a page in the browser that segments clips which people upload or record.

Examples:
    {program}
    {program} --weights output/quickstart/train/model_best.pth
    {program} --weights first.pth second.pth --max-seconds 20 --max-megabytes 50

The page is served at 127.0.0.1, for this machine only. Uploads and results lie in a temporary folder; those of a
visit are deleted when it ends, and all of them when the program does. Needs Gradio: pip install 'ska_vct[demo]'.
"""


def build_parser(program: str) -> ArgumentParser:
    """The command's options."""
    parser = command_parser(_DESCRIPTION.format(program=program))
    add = parser.add_argument
    # fmt: off
    add("--weights", nargs="+", default=[DEMO_WEIGHTS], metavar="FILE",
        help="checkpoints to choose from; default: the small model that comes with the package")
    add("--config-file", "--config", metavar="FILE", help="their config; default: the one stored with each")
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: a GPU if there is one")
    add("--max-seconds", type=float, default=60.0, help="longest clip (default: %(default)g)")
    add("--max-megabytes", type=float, default=100.0, help="largest file (default: %(default)g)")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets other machines in")
    add("--port", type=whole_number(1), help="default: the first that is free from 7860 on")
    # fmt: on
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = "ska-vct-demo") -> None:
    """``ska-vct-demo``."""
    args = build_parser(program).parse_args(arguments)
    with one_sentence_errors():
        from ska_vct.deploy.demo.page import serve
        from ska_vct.deploy.demo.segment import Limits

        serve(
            args.weights,
            config=args.config_file,
            device=args.device,
            limits=Limits(seconds=args.max_seconds, megabytes=args.max_megabytes),
            host=args.host,
            port=args.port,
        )


if __name__ == "__main__":
    main()
