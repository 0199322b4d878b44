#!/usr/bin/env python
"""Compose clips of photographs and recordings in AVSBench's layout (MS3), with flow and the masks of all objects.

From Debian packages as they are (apt-get download NAME), a training set and its test splits (about 10 minutes on
two cores; docs/composites.md):
    python datasets/make_composites.py --root datasets/composites \\
        --from-deb tuxpaint-stamps-default_*.deb mate-backgrounds_*.deb lomiri-wallpapers-16.04_*.deb \\
        plasma-workspace-wallpapers_*.deb

From folders of your own, cut-outs (PNG with alpha), some with an audio file of the same name, and photographs:
    python datasets/make_composites.py --root datasets/composites --cutouts cutouts --photographs photos \\
        --licence "CC-BY-4.0, A. Name"

ROOT/sources holds what was taken, with licences and the division into splits; ROOT/train the training and
validation clips, ROOT/plain, ROOT/silent-twin, ... the test clips, whose objects, recordings and backgrounds occur
in no other split. To resume an interrupted run, repeat the command.
"""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli.composites import main

if __name__ == "__main__":
    sys.exit(main())
