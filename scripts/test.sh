#!/usr/bin/env bash
# Set up if needed, and run the tests. Arguments after --no-venv go to pytest:
#   bash scripts/test.sh
#   bash scripts/test.sh tests/engine -x
#   bash scripts/test.sh -m slow
#   bash scripts/test.sh --no-venv            in the current Python environment
#   TEST_PROCESSES=8 bash scripts/test.sh     with more than two cores
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

case "${1:-}" in
    --no-venv)
        USE_VENV=0
        shift
        ;;
    -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac

setup_environment
echo "==> Tests"
start=$SECONDS
status=0
# One single-threaded process per core: threads that wait for each other on a busy core cost minutes.
OMP_NUM_THREADS=1 "$PYTHON" -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist loadfile "$@" || status=$?
STAGE_NAMES+=("Tests")
STAGE_TIMES+=($((SECONDS - start)))
print_times
if [ "$status" != 0 ]; then
    echo "    tests failed (pytest's status $status)"
fi
exit "$status"
