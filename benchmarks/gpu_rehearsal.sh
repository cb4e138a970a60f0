#!/usr/bin/env bash
# Rehearses gpu.sh on a machine without a GPU, as it runs on a borrowed GPU machine without a network:
#
#     bash benchmarks/gpu_rehearsal.sh FOLDER       needs uv ($UV, or that of .venv), Python 3.12 ($PYTHON) and 8 GB; downloads 3 GB
#
# FOLDER must be new, or an earlier rehearsal. It then holds an environment with the packages of gpu_machine.txt, the wheels of
# gpu_wheels.txt as gpu.sh's own command fetches them, a copy of the commit without .git, and out/: what gpu.sh copies to $OUT.
# There all parts of gpu.sh run, small and on the CPU, in some three minutes of an idle core. A second call keeps the wheels.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${UV:-.venv/bin/uv}"
folder="$(realpath -m "${1:?a folder must be named, got none; it may be new}")"
if [[ -n "$(ls -A "$folder" 2>/dev/null)" && ! -f "$folder/rehearsal" ]]; then
  echo "the folder must be new, or an earlier rehearsal, got $folder; name another one" >&2
  exit 2
fi
mkdir -p "$folder"
touch "$folder/rehearsal"
rm -rf "${folder:?}"/{env,copy,out,runs,home}   # an environment that has the wheels already would hide what is missing
mkdir "$folder/copy" "$folder/out"
"$uv" venv --quiet --seed --python "${PYTHON:-python3.12}" "$folder/env"
python="$folder/env/bin/python"
"$uv" pip install --quiet --python "$python" -r benchmarks/gpu_machine.txt
if [[ ! -d "$folder/wheels" ]]; then
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
    --platform manylinux2014_x86_64 -d "$folder/loading" -r benchmarks/gpu_wheels.txt
  mv "$folder/loading" "$folder/wheels"
fi
git archive HEAD | tar x -C "$folder/copy"
export COMMIT FGDLAB_HOME="$folder/home" PYTHON="$python" WHEELS="$folder/wheels" OUT="$folder/out" REHEARSAL="$folder/runs"
COMMIT="$(git rev-parse --short=12 HEAD)"
status=0
bash "$folder/copy/benchmarks/gpu.sh" || status=1
"$python" -m pip check || status=1              # a package that a wheel needs and nothing brings
ls "$folder/out"
((status == 0)) || { echo "the rehearsal failed; all output is in $folder/out/gpu.log" >&2; exit 1; }
echo "rehearsed in $folder"
