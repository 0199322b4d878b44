"""Package ``ska_vct``; everything else in this repository is run from the checkout."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    text = (ROOT / "ska_vct" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def read_requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


setup(
    name="ska_vct",
    version=read_version(),
    description="SKA-VCT: audio-visual segmentation in which sound has to explain the motion it lights up",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["ska_vct", "ska_vct.*"]),
    install_requires=read_requirements("requirements.txt"),
    extras_require={
        "dev": read_requirements("requirements-dev.txt"),
        # datasets/make_premasks.py
        "premasks": ["transformers>=4.40"],
        # tools/export.py --to onnx
        "export": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3"],
        # MODEL.PIXEL_DECODER.DEFORM_ATTN ms_deform_attn; compiled on installation, so: pip --no-build-isolation
        "deform": ["torch-ms-deform-attn>=0.1.1"],
        # datasets/compute_flow.py --submit
        "slurm": ["submitit>=1.5"],
    },
)
