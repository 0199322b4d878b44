"""docs/media.md says what happens to each odd medium today."""

import pytest

from tests.data.media_table import CASES, outcome, written

NAMES = [(title, name) for title, cases in CASES.items() for name in cases]


@pytest.mark.parametrize(("title", "name"), NAMES, ids=[name for _, name in NAMES])
def test_the_page_says_what_happens(title, name):
    assert f"| {name} | {outcome(CASES[title][name])} |" in written().splitlines()


def test_the_page_has_no_other_rows():
    rows = [line for line in written().splitlines() if line.startswith("| ") and not line.startswith("| file |")]
    assert len(rows) == len(NAMES)
