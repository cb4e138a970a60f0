#!/usr/bin/env bash
# Every test and benchmark that needs a CUDA GPU, from the project's folder, the most valuable part first; or the parts that are named:
#
#     bash benchmarks/gpu.sh                   loss tests step table1, with the Python of .venv, or of $PYTHON
#     bash benchmarks/gpu.sh table7            the temperature table alone: 6 rows x 3 seeds
#     WHEELS=folder bash benchmarks/gpu.sh     installs the wheels of a folder first, for a machine without a network. A machine with torch,
#                                              numpy, pandas, scikit-learn, matplotlib and click needs no others than this command fetches:
#         pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
#             -d folder -r benchmarks/gpu_wheels.txt
#     COMMIT=$(git rev-parse --short=12 HEAD)  where the copy of a clean checkout has no .git: the results name the commit
#     LIMIT=540                                seconds after which a table starts no more runs; the same call continues it
#     JOBS=5                                   runs at a time on the GPU
#     PART=150                                 seconds that loss, tests and step may take each
#     REHEARSAL=folder                         the same parts, small and on the CPU, with their runs in a folder
#
# A part that fails costs only itself: the others still run, and the exit status is 1. Results go to benchmarks/results/ and, as NAME-gpu.csv,
# .md and .png, to ablations/results/, each with the GPU's name. If $OUT is set, they are copied there after each part, with all output in gpu.log.
# An unfinished table is not published: only its results.csv is copied.
#
# Estimated time on one H100 with 16 cores, with the settings of scale gpu (fgdlab/lab/config/scales.py); not measured yet:
#
#     loss        three cases, each compiled once                                                        90 s
#     tests       those that need a GPU                                                                  60 s
#     step        parts of a training step, then the loader                                              60 s
#     table1      scenes 55 s (6,000 of 256 px x 9 ms, one process), teacher 90 s (8 epochs x 5,000 images at 450/s),
#                 15 runs x 4 epochs x 5,000 images at 1,000/s, five runs sharing the GPU, 300 s,
#                 start and evaluation on 500 images, 15 runs x 15 s, five at a time, 45 s              490 s
#
# All four fit into a quarter of an hour. The temperature table takes 345 s after Table 1, which has the same scenes, teacher and plain
# students; 550 s alone. A larger run: fgdlab sweep NAME --scale gpu --set train_images=20000
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}"
parts="${*:-${STEPS:-loss tests step table1}}"
jobs="${JOBS:-5}"                               # small students: several runs share one GPU
small="${REHEARSAL:-}"
export FGDLAB_COMMIT="${COMMIT:-}" PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

for part in $parts; do
  case "$part" in
    loss | tests | step | table1 | table7) ;;
    *) echo "parts must be among loss tests step table1 table7, got $part" >&2; exit 2 ;;
  esac
done
[[ -z "${OUT:-}" ]] || exec > >(tee -a "$OUT/gpu.log") 2> >(tee -a "$OUT/gpu.log" >&2)
if [[ -n "${WHEELS:-}" ]]; then
  "$python" -m pip install --quiet --no-deps --no-index "$WHEELS"/*.whl || exit 1
fi
if [[ -z "$small" ]]; then
  export FGDLAB_CUDA=required
  "$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "a CUDA GPU must be there, got none; check the driver")' || exit 1
  "$python" -c 'import torch, torchvision; print(torch.cuda.get_device_name(), "torch", torch.__version__, "torchvision", torchvision.__version__)'
fi

copied() {                                      # FILE...: copy to $OUT those that exist
  [[ -n "${OUT:-}" ]] || return 0
  for file in "$@"; do
    if [[ -f "$file" ]]; then cp "$file" "$OUT/$(basename "$file")"; fi
  done
}

bench() {                                       # MODULE RESULT WORDS...
  local module="$1" result="benchmarks/results/$2" status=0
  shift 2
  timeout --signal=INT "${PART:-150}" "$python" -m "benchmarks.$module" "$@" || status=1
  [[ -n "$small" ]] || copied "$result"
  return "$status"
}

table() {                                       # NAME: run it, then publish it in ablations/results
  local name="$1"
  if [[ -n "$small" ]]; then
    "$python" -m fgdlab sweep "$name" --scale smoke --jobs 1 --out "$small/$name"
    return
  fi
  if ${LIMIT:+timeout --signal=INT "$LIMIT"} "$python" -m fgdlab sweep "$name" --scale gpu --jobs "$jobs"; then
    "$python" -m fgdlab table "$name" --scale gpu --publish || return 1
    copied "ablations/results/$name-gpu".{csv,md,png}
  else
    [[ -z "${OUT:-}" || ! -f "runs/$name-gpu/results.csv" ]] || cp "runs/$name-gpu/results.csv" "$OUT/$name-gpu-unfinished.csv"
    echo "$name is unfinished and was not published; the same call continues it" >&2
    return 1
  fi
}

tests() {                                       # only the files with tests for a GPU: others may need packages that are not there
  local files
  mapfile -t files < <(grep -rl "mark.cuda" tests --include="test_*.py")
  timeout --signal=INT "${PART:-150}" "$python" -m pytest -m cuda "${files[@]}"
}

failed=()
for part in $parts; do
  SECONDS=0
  echo "== $part"
  case "$part" in
    loss) if [[ -n "$small" ]]; then bench fgd_loss "" --quick; else bench fgd_loss gpu_fgd_loss.json --device cuda; fi ;;
    tests) tests ;;
    step) if [[ -n "$small" ]]; then bench gpu_step "" --device cpu --quick; else bench gpu_step gpu_step.json; fi ;;
    table1) table table1_areas ;;
    table7) table table7_temperature ;;
  esac || failed+=("$part")
  echo "== $part took $SECONDS s"
done
if ((${#failed[@]})); then
  echo "these parts failed: ${failed[*]}" >&2
  exit 1
fi
