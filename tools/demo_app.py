"""A page in the browser that segments uploaded clips; ``python tools/demo_app.py --help`` has examples."""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli.demo import main

if __name__ == "__main__":
    main(program="python tools/demo_app.py")
