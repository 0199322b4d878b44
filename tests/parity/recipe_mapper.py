"""Parity of the mapper: recorded geometry, evaluation mode, draws and colour jitter."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from torch import Tensor

from ska_vct.data.augmentation import ClipAugmentation, ClipGeometry
from ska_vct.data.avsbench.subsets import S4_CATEGORIES
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.structures.clip import IGNORE_LABEL

from .golden import Golden, Row, compare
from .published import published_cfg, subset_of

# Images may differ by so many grey values, labels in such a share of the pixels.
_GREY_LIMIT, _LABEL_LIMIT = 2, 0.002
# Distances of distributions, scaled so that equal ones stay below: Kolmogorov-Smirnov's D * sqrt(n m / (n + m)),
# and standard errors of counts.
_KS_LIMIT, _COUNT_LIMIT = 2.5, 6.0
_FIRST_AND_LAST = [0, -1]


def recipe_mapper(golden: Golden) -> Iterable[Row]:
    """Every recorded clip through ``ClipMapper``, the draws of the geometry and of the jitter."""
    subset, sizes = subset_of(golden.path), golden.cfg
    for case, facts in json.loads(golden.text("cases")).items():
        cfg = published_cfg(subset, sizes[facts["sizes"]])
        with TemporaryDirectory() as folder:
            record = _write(golden, case, facts, subset, Path(folder))
            for name in golden.names(f"{case}/"):
                if name.endswith("/geometry"):
                    yield from _training(golden, name.removesuffix("/geometry"), cfg, record)
            if f"{case}/eval/images" in golden:
                yield from _evaluation(golden, f"{case}/eval", cfg, record)
    yield from _draws(golden, published_cfg(subset, sizes["real"]))
    if "jitter/facts" in golden:
        cfg = published_cfg(subset, {**sizes["small"], "INPUT.COLOR_AUG_SSD": True})
        with TemporaryDirectory() as folder:
            yield from _jitter(golden, cfg, subset, Path(folder))


def _write(golden: Golden, case: str, facts: Mapping, subset: str, folder: Path) -> dict:
    """Files of a recorded clip, and the record that names them; a case may keep its first and last frame only."""
    whole = f"{case}/in/images" in golden
    images = golden[f"{case}/in/images" if whole else f"{case}/in/images_first_last"].numpy()
    pre_masks = golden[f"{case}/in/pre_masks" if whole else f"{case}/in/pre_masks_first"].numpy()
    places = range(facts["num_frames"]) if whole else [0, facts["num_frames"] - 1]
    jpegs = [f"{case}/in/jpeg{place}" for place in places]
    frames = [golden[jpeg].numpy() if jpeg in golden else None for jpeg in jpegs]
    labels = list(golden[f"{case}/in/masks"].numpy())
    return _record(folder, subset, images, pre_masks, labels, jpegs=frames, category=facts.get("category", ""))


def _record(
    folder: Path,
    subset: str,
    images: Sequence[np.ndarray],
    pre_masks: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    jpegs: Sequence[np.ndarray | None] | None = None,
    category: str = "",
) -> dict:
    def png(name: str, array: np.ndarray) -> str:
        Image.fromarray(array).save(folder / f"{name}.png")
        return str(folder / f"{name}.png")

    paths = []
    for index, image in enumerate(images):
        if jpegs is None or jpegs[index] is None:
            paths.append(png(f"frame{index}", image))
        else:
            (folder / f"frame{index}.jpg").write_bytes(jpegs[index].tobytes())
            paths.append(str(folder / f"frame{index}.jpg"))
    segments = [png(f"segments{index}", array) for index, array in enumerate(pre_masks)]
    masks = [png(f"mask{index}", array) for index, array in enumerate(labels)]
    log_mel = np.random.default_rng(0).standard_normal((len(images), 1, 96, 64)).astype(np.float32)
    np.save(folder / "log_mel.npy", log_mel)
    return {
        "clip_id": "golden",
        "subset": subset,
        "category": category,
        "image_paths": paths,
        "mask_paths": masks + [None] * (len(paths) - len(masks)),
        # Where only the first was kept the others take it too, and are not compared.
        "pre_mask_paths": segments + segments[:1] * (len(paths) - len(segments)),
        "rebuilt": True,
        "log_mel_paths": {"pickle": None, "npy": str(folder / "log_mel.npy")},
        "wav_path": None,
        "video_path": None,
        "flow_path": "",
    }


def _mapper(cfg: CfgNode, *, is_train: bool) -> ClipMapper:
    cfg = cfg.clone()
    cfg.INPUT.ONLY_ANNOTATED = False
    return ClipMapper(cfg, is_train=is_train)


def _geometry(facts: Mapping, cfg: CfgNode, record: Mapping) -> ClipGeometry:
    y, x, *crop = facts["crop_y_x_h_w"]
    with Image.open(record["image_paths"][0]) as frame:
        width, height = frame.size
    return ClipGeometry(
        resized=tuple(facts["resize_to"]),
        offset=(y, x),
        size=tuple(side + pad for side, pad in zip(crop, facts["pad_bottom_right"], strict=True)),
        flip=facts["flip"],
        pad_value=cfg.INPUT.PAD_VALUE,
        square=facts["resize_from"][0] if tuple(facts["resize_from"]) != (height, width) else 0,
    )


def _training(golden: Golden, name: str, cfg: CfgNode, record: dict) -> Iterable[Row]:
    facts = json.loads(golden.text(f"{name}/geometry"))
    mapper = _mapper(cfg, is_train=True)
    # Whether a subset's frames are made square is the mapper's to know: only the draw is replaced.
    geometry = _geometry(facts, cfg, record)
    with mock.patch.object(mapper.augmentation, "draw", _recorded_draw(geometry)):
        clip = mapper(record)
    yield from _clip(golden, name, clip, record)


def _recorded_draw(geometry: ClipGeometry):
    def draw(height: int, width: int, *, rng: np.random.Generator, square: bool) -> ClipGeometry:
        if bool(geometry.square) != square or (square and geometry.square != min(height, width)):
            raise ValueError(f"Frames of {height} x {width}: recorded square {geometry.square}, ours {square}.")
        return geometry

    return draw


def _evaluation(golden: Golden, name: str, cfg: CfgNode, record: dict) -> Iterable[Row]:
    """Nothing is resized where the files have the sizes that are read and compared."""
    cfg = cfg.clone()
    cfg.INPUT.SIZE = tuple(golden[f"{name}/images"].shape[-2:])
    cfg.INPUT.EVAL_SIZE = tuple(golden[f"{name}/sem_segs"].shape[-2:])
    yield from _clip(golden, name, _mapper(cfg, is_train=False)(record), record)


def _clip(golden: Golden, name: str, clip: Mapping, record: Mapping) -> Iterable[Row]:
    for key in ("images", "pre_masks"):
        wanted = golden[f"{name}/{key}"]
        yield _grey(f"{name}/{key}", clip[key][: len(wanted)], wanted)
    wanted = golden[f"{name}/sem_segs"].long()
    ours = clip["masks"][clip["mask_valid"]]
    share = (ours != wanted).float().mean().item() if ours.shape == wanted.shape else math.inf
    yield Row(f"{name}/sem_segs, share of pixels", share, share, _LABEL_LIMIT)
    keys = json.loads(golden.text(f"{name}/keys"))
    classes = [frame["gt_classes"] for frame in keys["instances"]]
    if len(classes) != len(ours):
        classes = [classes[place] for place in _FIRST_AND_LAST]
    wrong = sum(_classes(mask) != wanted for mask, wanted in zip(ours, classes, strict=True))
    if "category_label" in keys:
        wrong += clip["category"] != keys["category_label"] - 1 or clip["category"] != S4_CATEGORIES.index(
            record["category"]
        )
    wrong += not np.array_equal(clip["log_mel"].numpy(), np.load(record["log_mel_paths"]["npy"]))
    yield compare(f"{name}/instances' classes, category, log-mel", wrong, torch.tensor(0))


def _classes(mask: Tensor) -> list[int]:
    return [value for value in mask.unique().tolist() if value != IGNORE_LABEL]


def _grey(name: str, ours: Tensor, wanted: Tensor) -> Row:
    """Largest difference in grey values as ``absolute``; ``relative`` is its share of 255."""
    if ours.shape != wanted.shape:
        return Row(f"{name} (shape {tuple(ours.shape)}, wanted {tuple(wanted.shape)})", math.inf, math.inf)
    difference = (ours.int() - wanted.int()).abs().max().item()
    return Row(f"{name}, grey values", difference, difference / 255, _GREY_LIMIT / 255)


def _draws(golden: Golden, cfg: CfgNode) -> Iterable[Row]:
    """Sets of sizes, places of the crop and share of flips of our draws and of the recorded ones."""
    augmentation = ClipMapper(cfg, is_train=True).augmentation
    rng = np.random.default_rng(0)
    for name in [
        name.removesuffix("/resize_to") for name in golden.names("draws/") if name.endswith("/resize_to")
    ]:
        height, width = map(int, name.split("/")[1].split("x"))
        theirs = {key: golden[f"{name}/{key}"].numpy() for key in ("resize_to", "offset_y_x", "crop_h_w", "flip")}
        count = len(theirs["flip"])
        ours = [augmentation.draw(height, width, rng=rng) for _ in range(count)]
        sizes, recorded = _counts([draw.resized for draw in ours]), _counts(theirs["resize_to"].tolist())
        yield compare(f"{name}/sizes in one of the two only", len(sizes.keys() ^ recorded.keys()), torch.tensor(0))
        scores = [
            abs(sizes.get(size, 0) - number) / math.sqrt(sizes.get(size, 0) + number)
            for size, number in recorded.items()
        ]
        yield Row(f"{name}/sizes' counts, standard errors", max(scores), max(scores), _COUNT_LIMIT)
        crops = [
            tuple(min(side, limit) for side, limit in zip(size, augmentation.size, strict=True))
            for size in theirs["resize_to"].tolist()
        ]
        yield compare(f"{name}/crop_h_w", torch.tensor(crops), torch.from_numpy(theirs["crop_h_w"]).long())
        score = abs(sum(draw.flip for draw in ours) - theirs["flip"].sum()) / math.sqrt(count / 2)
        yield Row(f"{name}/flips, standard errors", score, score, _COUNT_LIMIT)
        room = _places(
            np.array([draw.resized for draw in ours]), np.array([draw.offset for draw in ours]), augmentation
        )
        recorded_room = _places(theirs["resize_to"], theirs["offset_y_x"], augmentation)
        yield _same_distribution(f"{name}/places of the crop", room, recorded_room)
        inside = 0.0 if room.min() >= 0 and room.max() == recorded_room.max() == 1 else 1.0
        yield Row(f"{name}/crops reach both borders", inside, inside)


def _counts(sizes: Iterable[Sequence[int]]) -> dict[tuple[int, ...], int]:
    result: dict[tuple[int, ...], int] = {}
    for size in sizes:
        result[tuple(size)] = result.get(tuple(size), 0) + 1
    return result


def _places(resized: np.ndarray, offsets: np.ndarray, augmentation: ClipAugmentation) -> np.ndarray:
    """Corners of the crop as shares of the room there is, where there is any."""
    room = resized.astype(int) - np.array(augmentation.size)
    return offsets[room > 0] / room[room > 0]


def _same_distribution(name: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    ours, theirs = np.sort(ours.ravel()), np.sort(theirs.ravel())
    both = np.concatenate([ours, theirs])
    gaps = [np.searchsorted(values, both, side="right") / len(values) for values in (ours, theirs)]
    score = np.abs(gaps[0] - gaps[1]).max() * math.sqrt(len(ours) * len(theirs) / (len(ours) + len(theirs)))
    return Row(f"{name}, Kolmogorov-Smirnov", score, score, _KS_LIMIT)


def _jitter(golden: Golden, cfg: CfgNode, subset: str, folder: Path) -> Iterable[Row]:
    """Who gets a draw of its own, and what the draws do to the mean colour."""
    facts = json.loads(golden.text("jitter/facts"))
    means = golden["jitter/channel_means"].numpy()
    clips, frames = means.shape[0], means.shape[1] - 1
    image, pre_mask = golden["jitter/in/image"].numpy(), golden["jitter/in/pre_mask"].numpy()
    label = np.zeros(image.shape[:2], np.uint8)
    record = _record(folder, subset, [image] * frames, [pre_mask] * frames, [label])
    mapper, plain = _mapper(cfg, is_train=True), cfg.clone()
    plain.INPUT.COLOR_AUG_SSD = False
    plain = _mapper(plain, is_train=True)
    found = dict.fromkeys(
        ("pairs_equal", "frames_changed_by_jitter", "pre_masks_changed_by_jitter", "pre_mask_equals_its_frame",
         "clips_with_padding_left_at_128", "clips_with_labels_untouched"), 0,
    )  # fmt: skip
    shifts = []
    for seed in range(clips):
        clip, still = (one(record, rng=np.random.default_rng(seed)) for one in (mapper, plain))
        found["pairs_equal"] += sum(
            torch.equal(clip["images"][i], clip["images"][j]) for i in range(frames) for j in range(i)
        )
        for key, count in (("images", "frames_changed_by_jitter"), ("pre_masks", "pre_masks_changed_by_jitter")):
            found[count] += sum(not torch.equal(*pair) for pair in zip(clip[key], still[key], strict=True))
        found["pre_mask_equals_its_frame"] += sum(map(torch.equal, clip["images"], clip["pre_masks"]))
        padding = clip["masks"][0] == IGNORE_LABEL
        found["clips_with_padding_left_at_128"] += all(
            (clip[key][:, :, padding] == cfg.INPUT.PAD_VALUE).all() for key in ("images", "pre_masks")
        )
        found["clips_with_labels_untouched"] += torch.equal(clip["masks"], still["masks"])
        content = clip["images"][:, :, ~padding].float().mean(-1)
        shifts.append(content - still["images"][:, :, ~padding].float().mean(-1))
    for name, number in found.items():
        total = {"p": clips * frames * (frames - 1) // 2, "f": clips * frames, "c": clips}[name[0]]
        total = clips * frames if name.startswith("pre_mask") else total
        chance = (number + facts[name] + 1) / (2 * total + 2)
        score = abs(number - facts[name]) / math.sqrt(2 * total * chance * (1 - chance))
        yield Row(
            f"jitter/{name}: {number} of {total}, theirs {facts[name]}, standard errors",
            score,
            score,
            _COUNT_LIMIT,
        )
    ours, theirs = torch.stack(shifts).numpy(), means[:, :-1] - means[:, -1:]
    for channel, colour in enumerate(("red", "green", "blue")):
        yield _same_distribution(f"jitter/shift of mean {colour}", ours[..., channel], theirs[..., channel])
    spreads = [np.std(shift, axis=1).mean(-1) for shift in (ours, theirs)]
    yield _same_distribution("jitter/spread within a clip", *spreads)
    for name in [
        name.removesuffix("/geometry") for name in golden.names("jitter/train") if name.endswith("geometry")
    ]:
        geometry = _geometry(json.loads(golden.text(f"{name}/geometry")), cfg, record)
        with mock.patch.object(mapper.augmentation, "draw", _recorded_draw(geometry)):
            clip = mapper(record)
        padding = clip["masks"][0] == IGNORE_LABEL
        for key in ("images", "pre_masks"):
            wanted = golden[f"{name}/{key}"][:, :, padding]
            yield compare(f"{name}/{key}, padding", clip[key][: len(wanted), :, padding], wanted)
