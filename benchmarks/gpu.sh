#!/usr/bin/env bash
# Every check and every figure that needs a CUDA card, in one call from the project's folder:
#
#     bash benchmarks/gpu.sh              with the Python of .venv, or of $PYTHON
#     WHEELS=folder bash benchmarks/gpu.sh     installs every wheel of a folder first, for a machine without a network
#     STEPS="tests step" bash benchmarks/gpu.sh     only some of: tests step loss table1 table7
#
# Figures go to benchmarks/results/ and ablations/results/, each with the card's name, and copies to $OUT if that is set.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}"
steps="${STEPS:-tests step loss table1 table7}"
jobs="${JOBS:-4}"                               # small students: several runs share one card

[[ -z "${WHEELS:-}" ]] || "$python" -m pip install --quiet --no-deps "$WHEELS"/*.whl
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FGDLAB_CUDA=required
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "a CUDA card must be there, got none; check the driver")'
"$python" -c 'import torch, torchvision; print(torch.cuda.get_device_name(), "torch", torch.__version__, "torchvision", torchvision.__version__)'

for step in $steps; do
  echo "== $step"
  case "$step" in
    tests) "$python" -m pytest -m cuda ;;
    step) "$python" -m benchmarks.gpu_step ;;
    loss) "$python" -m benchmarks.fgd_loss --device cuda ;;
    table1) "$python" -m fgdlab sweep table1_areas --scale gpu --seeds 0,1,2 --jobs "$jobs" ;;
    table7) "$python" -m fgdlab sweep table7_temperature --scale gpu --seeds 0,1,2 --jobs "$jobs" ;;
    *) echo "STEPS must be among tests step loss table1 table7, got $step" >&2; exit 2 ;;
  esac
  if [[ -n "${OUT:-}" ]]; then
    for file in benchmarks/results/gpu_*.json benchmarks/results/*cuda*.json runs/*-gpu/results.csv; do
      [[ -f "$file" ]] && cp "$file" "$OUT/$(echo "$file" | tr / _)"
    done || true
  fi
done
