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
#     JOBS=5                                   runs at a time on the GPU
#     PART=150                                 seconds that loss, tests and step may take each
#     LIMIT=440                                seconds that a table may take; the same call continues it. One alone has no limit by default
#     REHEARSAL=folder                         the same parts, small and on the CPU, with their runs in a folder; benchmarks/gpu_rehearsal.sh
#
# A part that fails costs only itself: the others still run, and the exit status is 1. Results go to benchmarks/results/ and, as NAME-gpu.csv,
# .md and .png, to ablations/results/, each with the GPU's name. If $OUT is set, they are copied there every quarter of a minute, with all
# output in gpu.log and the finished runs of a table in runs.tgz. An unfinished table is not published; with that archive unpacked in the
# project's folder, fgdlab table shows its finished runs. Seeds run one after the other, so the first are complete. Another machine would
# train another teacher, and run all of them again.
#
# Estimated time on one H200 with 16 cores; not measured yet. Compiling the loss takes most of the first three parts: half a minute of one
# core for five levels and the first kernels, a quarter of a minute for two.
#
#     loss        16 images in bfloat16, channels_last, then NCHW; each with a self-check, 65 s          130 s
#     tests       eleven small compilations, and the formulas                                           150 s
#     step        one compilation with a self-check, 17 turns of eight steps, the loader                100 s
#     table1      the first of three seeds: scenes, teacher and one wave of five runs (scales.yaml)     350 s
#
# So a quarter of an hour holds all four and the start of a machine. The other seeds take four minutes more, and the temperature table six
# after Table 1, which has the same scenes, teacher and plain students. A larger run: fgdlab sweep NAME --scale gpu --set train_images=20000
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}"
parts="${*:-${STEPS:-loss tests step table1}}"
jobs="${JOBS:-5}"                               # small students: several runs share one GPU
small="${REHEARSAL:-}"
[[ -z "$small" ]] || : "${PART:=3600}" "${LIMIT:=3600}"
limit="${LIMIT:-$([[ "$parts" == *" "* ]] && echo 440 || echo 86400)}"      # of a table; beside other parts, of a quarter of an hour
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

begun="$(mktemp)"
save() {                                        # copies to $OUT what this call has written so far
  local results part="${OUT:-}/runs.$BASHPID"
  [[ -n "${OUT:-}" ]] || return 0
  find benchmarks/results ablations/results -newer "$begun" -name "*gpu[._]*" -exec cp {} "$OUT" \; 2>/dev/null
  mapfile -t results < <(find "${small:-runs}" -name result.json -newer "$begun" 2>/dev/null)
  ((${#results[@]})) || return 0
  for result in "${results[@]}"; do find "${result%/*}" -maxdepth 1 -name "*.json" -size -256k; done |
    tar czf "$part" -T - 2>/dev/null && mv "$part" "$OUT/runs.tgz"
}
trap 'save; rm -f "$begun"' EXIT
if [[ -n "${OUT:-}" ]]; then                    # also while a part runs: a machine may be taken away at any time
  while sleep "${EVERY:-15}" && [[ -f "$begun" ]]; do save; kill -0 $$ || exit; done &>/dev/null &
fi

limited() {                                     # SECONDS WORDS...: Python, interrupted after so long
  local seconds="$1"
  shift
  timeout --signal=INT --kill-after=20 "$seconds" "$python" "$@"
}

table() {                                       # NAME: run it, then publish it in ablations/results
  if [[ -n "$small" ]]; then
    limited "$limit" -m fgdlab sweep "$1" --scale smoke --jobs 1 --out "$small/$1"
  elif limited "$limit" -m fgdlab sweep "$1" --scale gpu --jobs "$jobs"; then
    "$python" -m fgdlab table "$1" --scale gpu --publish
  else
    echo "$1 is unfinished and was not published; the same call continues it" >&2
    return 1
  fi
}

tests() {                                       # SECONDS: only files with tests for a GPU: others may need packages that are not there
  local files
  mapfile -t files < <(grep -rlE "^@pytest.mark.cuda" tests --include="test_*.py")
  limited "${PART:-$1}" -m pytest -v -m cuda "${files[@]}"
}

failed=()
for part in $parts; do
  SECONDS=0
  echo "== $part"
  case "$part" in
    loss) limited "${PART:-150}" -m benchmarks.fgd_loss $([[ -n "$small" ]] && echo --quick || echo --device cuda) ;;
    tests) tests 150 ;;
    step) limited "${PART:-150}" -m benchmarks.gpu_step ${small:+--device cpu --quick} ;;
    table1) table table1_areas ;;
    table7) table table7_temperature ;;
  esac || failed+=("$part")
  echo "== $part took $SECONDS s"
  save
done
if ((${#failed[@]})); then
  echo "these parts failed: ${failed[*]}" >&2
  exit 1
fi
