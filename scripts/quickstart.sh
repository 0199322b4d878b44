#!/usr/bin/env bash
# From a bare Python >= 3.10 to scores and contact sheets: set-up, synthetic clips, training, scoring, drawing.
# Can be run again at any time: finished stages are skipped, interrupted training continues.
#   bash scripts/quickstart.sh
#   bash scripts/quickstart.sh --setup-only   only the environment
#   bash scripts/quickstart.sh --no-venv      in the current Python environment
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

# Threads that spin while they wait for each other take a training step from one second to nine on a busy machine.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

CONFIG=configs/synth/quickstart.yaml
DATA=datasets/synth
BENCHMARK=datasets/synth_benchmark
OUT=output/quickstart
SETUP_ONLY=0

for argument in "$@"; do
    case "$argument" in
        --no-venv) USE_VENV=0 ;;
        --setup-only) SETUP_ONLY=1 ;;
        -h | --help)
            sed -n '2,6s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail "unknown argument '$argument'; see bash scripts/quickstart.sh --help" ;;
    esac
done

# once NAME RESULT WANTED COMMAND...: skip a command that already finished with the same WANTED text and whose RESULT
# still exists.
once() {
    local stamp=$OUT/.done/$1 result=$2 wanted=$3
    shift 3
    if [ -e "$result" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        echo "    done earlier"
        return
    fi
    "$@" || return 1
    mkdir -p "$OUT/.done"
    printf '%s\n' "$wanted" >"$stamp.tmp" && mv "$stamp.tmp" "$stamp"
}

config_text() {
    cat "$CONFIG" configs/synth/in_step.yaml configs/synth/benchmark.yaml configs/_base_/ska_vct.yaml \
        configs/_base_/datasets/ms3.yaml configs/_base_/datasets/synth.yaml configs/_base_/backbones/tiny.yaml
}

SYNTH=(datasets/make_synth.py --root "$DATA" --subset ms3 --train 1200 --val 60 --test 60 --size 96 --seed 0
    --scenes "plain=0.4,twin=0.25,mover=0.25,offscreen=0.1")
# Scored are the benchmark's own test splits, so that scores compare with those of the documentation.
TESTS=(datasets/make_synth.py --benchmark --root "$BENCHMARK" --only plain silent-twin silent-mover)

make_data() {
    once data "$DATA/AVSBench_object/Multi-sources/ms3_meta_data.csv" "${SYNTH[*]}" "$PYTHON" "${SYNTH[@]}" \
        && once tests "$BENCHMARK/silent-mover" "${TESTS[*]}" "$PYTHON" "${TESTS[@]}"
}

train() {
    # A run with another config cannot be continued, so it is moved aside.
    if [ -d "$OUT/train" ] && [ "$(config_text)" != "$(cat "$OUT/.config" 2>/dev/null)" ]; then
        local aside
        aside=$OUT.old.$(date +%Y%m%d-%H%M%S)
        echo "    the config has changed: the earlier run was moved to $aside"
        mv "$OUT" "$aside"
        mkdir -p "$OUT/.done"
        for stamp in data tests; do
            [ -f "$aside/.done/$stamp" ] && cp "$aside/.done/$stamp" "$OUT/.done/$stamp"
        done
    fi
    mkdir -p "$OUT"
    config_text >"$OUT/.config"
    once train "$OUT/train/model_best.pth" "$(config_text)" "$PYTHON" scripts/measure.py "$OUT/training.json" -- \
        "$PYTHON" tools/train_net.py --config "$CONFIG" --resume OUTPUT_DIR "$OUT/train"
}

score() {
    once score "$OUT/scores/robustness.json" "$(config_text)" "$PYTHON" tools/evaluate_robustness.py \
        --config "$CONFIG" --weights "$OUT/train/model_best.pth" --benchmark "$BENCHMARK" \
        --conditions true silence off_screen --out "$OUT/scores"
}

draw() {
    once draw "$OUT/images" "$(config_text)" "$PYTHON" tools/visualize.py --config "$CONFIG" \
        --weights "$OUT/train/model_best.pth" --dataset avsbench_ms3_test --num 8 --out "$OUT/images"
}

setup_environment
if [ "$SETUP_ONLY" = 1 ]; then
    print_times
    exit 0
fi
stage "Synthetic clips" make_data
stage "Training" train
stage "Scoring" score
stage "Contact sheets" draw
print_times
"$PYTHON" scripts/closing_table.py "$OUT"
