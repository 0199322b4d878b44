"""Train or score SKA-VCT; ``python tools/train_net.py --help`` has examples."""

import sys

try:
    from ska_vct.cli.train import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )

if __name__ == "__main__":
    main(program="python tools/train_net.py", module="tools/train_net.py")
