"""Robustness scores as JSON, Markdown and csv (docs/scores.md).

==================  ========================================================================================
``robustness.json``  per split ``num_clips``, ``conditions`` (see ``condition_scores``), ``G_mIoU``,
                     ``drop``, ``notes``; percent, null where there is nothing to measure
``robustness.md``    the same as tables
``per_clip.csv``     per split, condition and clip: scores in percent, pixels of the groups of objects
==================  ========================================================================================
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from ska_vct.evaluation.conventions import CONVENTIONS, MEANINGS, clip_scores, m_f_threshold
from ska_vct.evaluation.metrics import BinaryStats, SemanticStats, false_positive_share
from ska_vct.evaluation.objects import GROUPS, judge_frames, map_is_first
from ska_vct.structures.clip import TRUE_CONDITION
from ska_vct.utils.files import atomic_write, write_json

_OBJECT_SCORES = (
    "right", "wrong", "right_minus_wrong", "map_first", "right_given_map_first",
    "silent_still", "silent_moving", "silent", "missed",
)  # fmt: skip
_EXPLANATIONS = (
    "FPR: mean over clips of the mean share of a frame's pixels that are segmented (p > 0.5; AVSS: not "
    "background), the same in all conventions.",
    "G-mIoU: harmonic mean of M_J with the true audio and 100 - M_J with the negative audio.",
    "drop: M_J on `plain` minus M_J here, true audio.",
    "right: share of the frames with a sounding and a silent object in view where more than half of the pixels "
    "that sound and less than half of those that do not are segmented; wrong: the reverse; `n` such frames.",
    "map first: share of those frames in which the motion map's mean is higher on the sounding than on any silent "
    "objects; right given map first: how often those frames are right.",
    "silent, still / moving: share of the pixels of silent objects that are segmented; missed: share of the "
    "sounding ones' pixels that are not. Pixels of all frames are summed.",
)


def write_robustness(
    result: Mapping, clips: Mapping[tuple[str, str], Mapping[str, BinaryStats | SemanticStats]], folder: Path
) -> None:
    """Write the files listed in the module docstring, each atomically.

    Args:
        result: returned by ``evaluate_robustness``.
        clips: (split, condition) -> clip id -> counts.
        folder: folder to write to.
    """
    write_json(folder / "robustness.json", result)
    with atomic_write(folder / "robustness.md", "w") as file:
        file.write(to_markdown(result))
    rows = [
        {"split": split, "condition": condition, "clip_id": clip_id, **_clip_row(stats)}
        for (split, condition), found in clips.items()
        for clip_id, stats in found.items()
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(folder / "per_clip.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)


def to_markdown(result: Mapping) -> str:
    """The result as a Markdown page."""
    splits, convention = result["splits"], result["convention"]
    page = ["# Robustness", "", f"Percent; M_J, M_F, G-mIoU and drop in convention `{convention}`."]
    page += [f"M_F's threshold: {m_f_threshold(convention)}."] if _is_binary(splits) else []
    page += _section(f"Splits, true audio; percent, convention `{convention}`", _split_rows(splits))
    page += _section(f"Changed clips; percent, convention `{convention}`", _condition_rows(splits))
    page += _section(
        "Objects that are known; percent, convention: pixels and frames of the split summed", _object_rows(splits)
    )
    page += _section("The same by second of the clip, true audio", _frame_rows(splits))
    page += _section("M_J / M_F in every convention, percent", _convention_rows(splits))
    page += ["", *(f"- {text}" for text in _EXPLANATIONS)]
    page += [f"- `{name}`: {MEANINGS[name]}" for name in CONVENTIONS]
    page += [f"- {name}: {note}" for name, split in splits.items() for note in split["notes"]]
    return "\n".join(page) + "\n"


def _section(title: str, rows: Sequence[Mapping]) -> list[str]:
    if not rows:
        return []
    return ["", f"## {title}", "", tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="pipe", missingval="-")]


def _split_rows(splits: Mapping) -> list[dict]:
    return [
        {"split": name, "clips": split["num_clips"]}
        | {key: own[key] for key in ("M_J", "M_F", "boundary_F", "FPR")}
        | {"drop": split["drop"]}
        for name, split in splits.items()
        if (own := split["conditions"].get(TRUE_CONDITION))
    ]


def _condition_rows(splits: Mapping) -> list[dict]:
    return [
        {"split": name, "condition": condition, "M_J true": split["conditions"].get(TRUE_CONDITION, {}).get("M_J")}
        | {key: scores[key] for key in ("M_J", "M_F", "FPR")}
        | {"G-mIoU": split["G_mIoU"].get(condition)}
        for name, split in splits.items()
        for condition, scores in split["conditions"].items()
        if condition != TRUE_CONDITION
    ]


def _object_rows(splits: Mapping) -> list[dict]:
    return [
        {"split": name, "condition": condition, **_object_cells(scores)}
        for name, split in splits.items()
        for condition, scores in split["conditions"].items()
        if any(scores[key] is not None for key in _OBJECT_SCORES)
    ]


def _frame_rows(splits: Mapping) -> list[dict]:
    return [
        {"split": name, "second": second, **_object_cells(scores)}
        for name, split in splits.items()
        for second, scores in split["conditions"].get(TRUE_CONDITION, {}).get("by_frame", {}).items()
        if scores["silent_frames"]
    ]


def _object_cells(scores: Mapping) -> dict:
    return {"n": scores["silent_frames"]} | {key.replace("_", " "): scores[key] for key in _OBJECT_SCORES}


def _convention_rows(splits: Mapping) -> list[dict]:
    rows = []
    for name, split in splits.items():
        for condition, scores in split["conditions"].items():
            cells = {
                _convention_heading(key, found): f"{found['mIoU']:.2f} / {found['F']:.2f}"
                for key, found in scores["conventions"].items()
            }
            rows.append({"split": name, "condition": condition, **cells})
    return rows


def _convention_heading(name: str, scores: Mapping) -> str:
    return f"{name} (M_F threshold: {m_f_threshold(name)})" if "M_F" in scores else name


def _is_binary(splits: Mapping) -> bool:
    """Whether M_F is a score of masks with a threshold; AVSS's F is not."""
    scores = (scores for split in splits.values() for scores in split["conditions"].values())
    return any("M_F" in found for score in scores for found in score["conventions"].values())


def _clip_row(stats: BinaryStats | SemanticStats) -> dict:
    scores = clip_scores(stats)
    scores["FPR"] = scores.pop("false_positive_share", false_positive_share(stats))
    row = {name: f"{100 * value:.4f}" for name, value in scores.items()}
    if stats.objects is not None:
        for group, (pixels, found) in zip(GROUPS, stats.objects.sum(0).tolist(), strict=True):
            row |= {f"{group}_pixels": pixels, f"{group}_segmented": found}
        judged = judge_frames(stats.objects)
        right, wrong, both = (int(frames.sum()) for frames in judged)
        row |= {"silent_frames": both, "right_frames": right, "wrong_frames": wrong}
        if stats.map_means is not None:
            first = map_is_first(stats.map_means) & judged[2]
            row |= {"map_first_frames": int(first.sum()), "right_map_first_frames": int((first & judged[0]).sum())}
    return row
