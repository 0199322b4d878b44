"""Facts of datasets described by ``DATASETS.OWN`` in a config, for the same reader as AVSBench's."""

import os
from collections.abc import Mapping

from ska_vct.data.facts import ORIGINAL, SPLITS, DatasetFacts, ImageSet, placeholders
from ska_vct.utils.errors import SkaVctError

ANNOTATED = ("all", "first", "existing")
_FILE_NUMBERS = {"second", "frame"}


class OwnDatasetError(SkaVctError, ValueError):
    """The description of a dataset is inconsistent; the message names the key."""


def own_facts(node: Mapping) -> DatasetFacts:
    """Facts of the dataset that ``DATASETS.OWN`` describes (``configs/_base_/datasets/own.yaml`` explains it).

    Args:
        node: the config node; no files are read.

    Raises:
        OwnDatasetError: a key is missing or contradicts another, or a template leads outside the dataset's folder.
    """
    images, masks, video = (_template(node, key) for key in ("IMAGES", "MASKS", "VIDEO"))
    audio, log_mel = _template(node, "AUDIO"), _template(node, "LOG_MEL")
    if not (images or video):
        raise OwnDatasetError("DATASETS.OWN sets neither IMAGES nor VIDEO; set one as the source of the frames.")
    if not (audio or video or log_mel):
        raise OwnDatasetError("DATASETS.OWN sets neither AUDIO nor VIDEO; set one as the source of the audio.")
    if not masks:
        raise OwnDatasetError("DATASETS.OWN.MASKS is empty; set it to the location of the masks.")
    for key, template in (("IMAGES", images), ("MASKS", masks)):
        if template and not _FILE_NUMBERS & placeholders(os.path.basename(template)):
            raise OwnDatasetError(
                f"DATASETS.OWN.{key} is '{template}', the same file for every second; number the files with "
                "{second} or {frame}."
            )
    if node["ANNOTATED"] not in ANNOTATED:
        raise OwnDatasetError(
            f"DATASETS.OWN.ANNOTATED is '{node['ANNOTATED']}'; choose one of {', '.join(ANNOTATED)}."
        )
    if node["FRAME_RATE"] < 1 or min(node["SECONDS"], node["FIRST_NUMBER"], node["DIGITS"]) < 0:
        raise OwnDatasetError(
            "DATASETS.OWN: FRAME_RATE must be at least 1, SECONDS, FIRST_NUMBER and DIGITS at least 0."
        )
    classes = tuple(node["CLASSES"])
    binary = len(classes) == 2
    frames_at, _, frame_file = images.rpartition("/")
    masks_at, _, mask_file = masks.rpartition("/")
    # The same name may occur in several splits or folders, so the clip's id must contain those too.
    keys = placeholders(images or video) | placeholders(masks)
    parts = ["{split}", *(f"{{{key}}}" for key in sorted(keys - {"split", "name"} - _FILE_NUMBERS)), "{name}"]
    clip = "/".join(parts)
    name = node["NAME"]
    return DatasetFacts(
        name=name,
        title=node["TITLE"] or name,
        source="DATASETS.OWN",
        classes=classes,
        binary_masks=binary,
        num_prototypes=0 if binary else len(classes),
        num_frames=node["SECONDS"],
        first_mask_labels=(None,) if node["ANNOTATED"] == "first" else (),
        masks_where_found=node["ANNOTATED"] == "existing",
        audio_fill="repeat",
        table=_table(node),
        columns={"name": ("clip", "name", "video_id"), "split": ("split",)},
        clip_id=clip,
        image_sets=(ImageSet(state=ORIGINAL, frames=frames_at, masks=dict.fromkeys(SPLITS, masks_at)),),
        frame_files=(frame_file,) if images else (),
        mask_files=(mask_file,),
        first_number=node["FIRST_NUMBER"],
        frame_rate=node["FRAME_RATE"],
        digits=node["DIGITS"],
        pre_mask_clips=(clip,),
        wav=audio,
        log_mel=log_mel.removesuffix(".npy").removesuffix(".pkl"),
        video=video,
        flow=f"{name}/{clip}.npz",
    )


def _template(node: Mapping, key: str) -> str:
    """Path template below the dataset's folder, or absolute if written so."""
    template = node[key].replace("{clip}", "{name}")
    inside = template
    for name in placeholders(template):
        inside = inside.replace(f"{{{name}}}", "")
    if "{" in inside or "}" in inside or "\0" in inside:
        raise OwnDatasetError(
            f"DATASETS.OWN.{key} is '{node[key]}'; a placeholder is a lower-case word in braces, such as "
            "{clip} or {second}."
        )
    if ".." in template.split("/"):
        raise OwnDatasetError(
            f"DATASETS.OWN.{key} is '{node[key]}', which leads outside DATASETS.ROOT; use an absolute path."
        )
    if template and "name" not in placeholders(template):
        raise OwnDatasetError(
            f"DATASETS.OWN.{key} is '{node[key]}', the same for all clips; it must contain {{clip}}."
        )
    return os.path.expanduser(template)


def _table(node: Mapping) -> str:
    table = os.path.expanduser(node["TABLE"])
    if ".." in table.split("/"):
        raise OwnDatasetError(
            f"DATASETS.OWN.TABLE is '{table}', which leads outside DATASETS.ROOT; use an absolute path."
        )
    return table
