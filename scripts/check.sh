#!/usr/bin/env bash
# Set up if needed, and check the code without running it: formatter, linter, type checker.
#   bash scripts/check.sh
#   bash scripts/check.sh --no-venv      in the current Python environment
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

case "${1:-}" in
    --no-venv) USE_VENV=0 ;;
    -h | --help)
        sed -n '2,4s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    "") ;;
    *) fail "unknown argument '$1'; see bash scripts/check.sh --help" ;;
esac

setup_environment
stage "Formatter" "$PYTHON" -m ruff format --check .
stage "Linter" "$PYTHON" -m ruff check .
stage "Type checker" "$PYTHON" -m mypy
print_times
