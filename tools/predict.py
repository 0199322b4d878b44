"""Segment clips with a trained model; ``python tools/predict.py --help`` has examples."""

import sys

try:
    from ska_vct.cli.predict import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )

if __name__ == "__main__":
    main(program="python tools/predict.py")
