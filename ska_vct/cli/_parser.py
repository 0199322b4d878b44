"""The parser of every command, and options that several commands share."""

import argparse
import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby

from ska_vct.utils.errors import InputError

# ska_vct.checkpoint.fetch.packages.DEFAULT_WEIGHTS, whose module is not imported for --help.
DEMO_WEIGHTS = "ska_vct://demo"


def command_parser(description: str | None, *, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the description (usually the module's docstring) with its paragraphs.

    Args:
        description: text above the options.
        epilog: text below them.
    """
    return argparse.ArgumentParser(description=description, formatter_class=_Formatter, epilog=epilog)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Fits text to the terminal's width: paragraphs are filled, long commands continue behind a backslash."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for as_it_is, group in groupby(text.splitlines(), lambda line: not line.strip() or line[0].isspace()):
            lines = list(group)
            if as_it_is:
                block = [part for line in lines for part in _fitted(line, width)]
            else:
                block = textwrap.wrap(" ".join(lines), width, break_on_hyphens=False)
            filled += [f"{indent}{line}".rstrip() for line in block]
        return "\n".join(filled)


def _fitted(line: str, width: int) -> list[str]:
    """An indented line, a command or an entry of a table, in lines of at most ``width`` where spaces allow it."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    entry = re.match(r" *\S+ {2,}(?=\S)", line)
    if entry:
        return textwrap.wrap(line, width, subsequent_indent=" " * len(entry[0]), break_on_hyphens=False)
    command, comment, note = line.partition("  # ")
    continued = command.endswith(" \\")
    command = command.removesuffix(" \\").rstrip()
    # Lines that continue a command are indented once, not deeper for each.
    following = indent if command.lstrip().startswith("--") else f"{indent}    "
    parts = textwrap.wrap(
        command, width - 2, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
    parts = [f"{part} \\" for part in parts[:-1]] + [f"{parts[-1]} \\" if continued else parts[-1]]
    return [f"{indent}# {note}", *parts] if comment else parts


def whole_number(least: int) -> Callable[[str], int]:
    """The ``type`` of an option that takes a whole number of at least ``least``."""

    def parse(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{word[:40]!r} is not a whole number of at least {least}")
        return value

    return parse


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``opts``, the rest of the command line: ``KEY VALUE`` pairs that change the config."""
    parser.add_argument("opts", nargs=argparse.REMAINDER, help='changes to the config: "KEY VALUE" pairs')


def add_benchmark_folders(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add the options of a command that reads all splits of the benchmark and writes files about them.

    Args:
        parser: to add ``--benchmark`` and ``--out`` to.
        out: help of ``--out``.
    """
    parser.add_argument("--benchmark", required=True, metavar="ROOT", help="folder of the benchmark's splits")
    parser.add_argument("--out", required=True, metavar="DIR", help=out)


def cluster_parameters(pairs: Sequence[str]) -> dict[str, str | int]:
    """``KEY=VALUE`` pairs of ``--cluster-option`` as a dict; decimal values become integers.

    Raises:
        InputError: a word has no ``=``.
    """
    split = [pair.partition("=") for pair in pairs]
    wrong = [key for key, equals, _ in split if not equals]
    if wrong:
        raise InputError(f"--cluster-option takes KEY=VALUE, not '{wrong[0]}'.")
    return {key: int(value) if value.isdecimal() else value for key, _, value in split}
