#!/usr/bin/env bash
# Every test and benchmark that needs a CUDA GPU, from the project's folder; all of them, or the parts that are named:
#
#     bash benchmarks/gpu.sh                   tests step loss table1 table7, with the Python of .venv, or of $PYTHON
#     bash benchmarks/gpu.sh table1            Table 1 alone: 5 rows x 3 seeds at --scale gpu
#     bash benchmarks/gpu.sh table7            the temperature table alone: 6 rows x 3 seeds
#     WHEELS=folder bash benchmarks/gpu.sh     installs every wheel of a folder first, for a machine without a network
#     COMMIT=$(git rev-parse --short=12 HEAD)  where the copy of a clean checkout has no .git: the results name the commit
#     LIMIT=540                                seconds after which a table starts no more runs; the same call continues it
#     JOBS=5                                   runs at a time on the GPU
#
# Results go to benchmarks/results/ and, as NAME-gpu.csv, .md and .png, to ablations/results/, each with the GPU's name.
# If $OUT is set, they are copied there too. An unfinished table is not published: only its results.csv is copied.
#
# Estimated time on one H100 with 16 cores, with the settings of scale gpu (fgdlab/lab/config/scales.py); not measured yet:
#
#     scenes      6,000 of 256 px x 9 ms (measured, one core, one process)                               55 s
#     teacher     8 epochs x 5,000 images at 450/s (ResNet-50, one process)                              90 s
#     Table 1     15 runs x 4 epochs x 5,000 images at 1,000/s, five runs sharing the GPU               300 s
#     start and evaluation on 500 images: 15 runs x 15 s, five at a time                                 45 s
#                                                                                                       490 s
#
# The temperature table takes 345 s after Table 1, which has the same scenes, teacher and plain students; 550 s alone. So
# each fits into ten minutes. Where time is short, run one table per call, and "tests step loss" in another. A larger run:
# fgdlab sweep NAME --scale gpu --set train_images=20000
#
# Scenes can be made beforehand: fgdlab data digits --size 256 --train 5000 --tune 500 --val 500 puts them where runs look
# for them, $FGDLAB_HOME/data/digits-HASH, about 150 MB. Copy that folder and set FGDLAB_HOME on the other machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}"
steps="${*:-${STEPS:-tests step loss table1 table7}}"
jobs="${JOBS:-5}"                               # small students: several runs share one GPU
export FGDLAB_COMMIT="${COMMIT:-}"

for step in $steps; do
  case "$step" in
    tests | step | loss | table1 | table7) ;;
    *) echo "parts must be among tests step loss table1 table7, got $step" >&2; exit 2 ;;
  esac
done
[[ -z "${WHEELS:-}" ]] || "$python" -m pip install --quiet --no-deps "$WHEELS"/*.whl
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FGDLAB_CUDA=required
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "a CUDA GPU must be there, got none; check the driver")'
"$python" -c 'import torch, torchvision; print(torch.cuda.get_device_name(), "torch", torch.__version__, "torchvision", torchvision.__version__)'

copied() {                                      # FILE...: copy to $OUT those that exist
  [[ -n "${OUT:-}" ]] || return 0
  for file in "$@"; do
    if [[ -f "$file" ]]; then cp "$file" "$OUT/$(basename "$file")"; fi
  done
}

table() {                                       # NAME: run it, then publish it in ablations/results
  local name="$1"
  if ${LIMIT:+timeout --signal=INT "$LIMIT"} "$python" -m fgdlab sweep "$name" --scale gpu --jobs "$jobs"; then
    "$python" -m fgdlab table "$name" --scale gpu --publish
    copied "ablations/results/$name-gpu".{csv,md,png}
  else
    [[ -z "${OUT:-}" || ! -f "runs/$name-gpu/results.csv" ]] || cp "runs/$name-gpu/results.csv" "$OUT/$name-gpu-unfinished.csv"
    echo "$name is unfinished and was not published; the same call continues it" >&2
    return 1
  fi
}

for step in $steps; do
  echo "== $step"
  case "$step" in
    tests) "$python" -m pytest -m cuda ;;
    step) "$python" -m benchmarks.gpu_step; copied benchmarks/results/gpu_step.json ;;
    loss) "$python" -m benchmarks.fgd_loss --device cuda; copied benchmarks/results/gpu_fgd_loss.json ;;
    table1) table table1_areas ;;
    table7) table table7_temperature ;;
  esac
done
