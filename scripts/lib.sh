# Stages of the set-up, sourced by quickstart.sh, check.sh and test.sh, which run in the repository's root folder.
# Sets PYTHON to the interpreter to use.

STAGE_NAMES=()
STAGE_TIMES=()
VENV=.venv
USE_VENV=1

fail() {
    echo "error: $*" >&2
    exit 1
}

# stage NAME COMMAND...: run a command and print its name before and its time after.
stage() {
    local name=$1 start=$SECONDS
    shift
    echo "==> $name"
    "$@" || fail "'$name' failed; the reason is above. Run this script again to continue from there."
    local took=$((SECONDS - start))
    STAGE_NAMES+=("$name")
    STAGE_TIMES+=("$took")
    echo "    $took s"
}

is_supported() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python python3.13 python3.12 python3.11 python3.10; do
        if is_supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

choose_python() {
    if [ "$USE_VENV" = 1 ] && is_supported "$VENV/bin/python"; then
        PYTHON=$VENV/bin/python
    else
        PYTHON=$(find_python) || fail "no Python >= 3.10 found; install one, or set its path: PYTHON=/path/to/python bash $0"
    fi
    if [ "$USE_VENV" = 1 ]; then
        if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
            "$PYTHON" -m venv "$VENV" \
                || fail "$PYTHON cannot create a virtual environment; on Debian or Ubuntu: apt install python3-venv"
        fi
        PYTHON=$VENV/bin/python
    elif ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        fail "$PYTHON has no pip; install it, or run without --no-venv"
    fi
    echo "    $("$PYTHON" --version) ($PYTHON)"
}

# Shows progress in a terminal, and only errors in a log.
pip_install() {
    local quiet=-qq
    [ -t 1 ] && quiet=-q
    "$PYTHON" -m pip --disable-pip-version-check install $quiet "$@"
}

install_packages() {
    if [ "$USE_VENV" = 1 ]; then
        local stamp=$VENV/.ska_vct_packages
        local wanted
        wanted=$(cat requirements.txt requirements-dev.txt constraints.txt)
        if [ -f "$stamp" ] && [ "$wanted" = "$(cat "$stamp")" ]; then
            echo "    unchanged"
            return
        fi
        echo "    downloading a few GB the first time"
        pip_install -r requirements.txt -r requirements-dev.txt -c constraints.txt || return 1
        printf '%s\n' "$wanted" >"$stamp.tmp" && mv "$stamp.tmp" "$stamp"
        return
    fi
    # The user's own environment: existing packages stay as they are, missing ones are added.
    local missing
    missing=$("$PYTHON" scripts/missing_packages.py) || return 1
    if [ -n "$missing" ]; then
        echo "    adding $(echo $missing)"
        # shellcheck disable=SC2086
        pip_install $missing || return 1
    fi
}

install_project() {
    if "$PYTHON" scripts/missing_packages.py --project; then
        echo "    unchanged"
    else
        # With the setuptools that is there; where that is too old, pip fetches another one to build with.
        pip_install --no-deps --no-build-isolation -e . 2>/dev/null || pip_install --no-deps -e .
    fi
}

setup_environment() {
    stage "Python" choose_python
    stage "Packages" install_packages
    stage "Detectron2" "$PYTHON" scripts/install_detectron2.py
    stage "SKA-VCT" install_project
}

print_times() {
    local i
    echo
    for i in "${!STAGE_NAMES[@]}"; do
        printf '    %-28s %5d s\n' "${STAGE_NAMES[$i]}" "${STAGE_TIMES[$i]}"
    done
    printf '    %-28s %5d s\n' "total" "$SECONDS"
}
