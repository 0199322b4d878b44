"""Train or score SKA-VCT; ``python tools/train_net.py --help`` has examples."""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli.train import main

if __name__ == "__main__":
    main(program="python tools/train_net.py", module="tools/train_net.py")
