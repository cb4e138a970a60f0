# Two commands: `make table1` and `make test`. Each builds .venv from requirements.lock on first use.
PYTHONS = python3.11 python3.12 python3.13 python3
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin
OLDEST = torch==2.4.1 torchvision==0.19.1 "numpy<2.3" pytest

.PHONY: table1 test test-slow smoke robust notebooks docs book screenshots lab bench lock dist oldest clean help

table1: .venv/ready               ## the paper's Table 1 on this machine: 5 rows x 3 seeds, nine minutes on two cores
	$(BIN)/fgdlab sweep table1_areas --seeds 0,1,2

test: .venv/ready                 ## the fast tests, one process per core, at most six minutes on two cores
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: test                   ## all tests: the fast ones, then the slow ones and those in a browser
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "slow or browser" --durations=20     # 3 processes, because these tests wait about half of the time

smoke: .venv/ready                ## every sweep once at smoke scale; its numbers mean nothing
	ls ablations/sweeps/*.yaml | xargs -n 1 basename -s .yaml | xargs -P 2 -I NAME $(BIN)/fgdlab sweep NAME --scale smoke --jobs 1

robust: .venv/ready               ## robustness: bad inputs, safety, properties, masks, kills, leaks; writes figures into tests/robustness/ROBUST.md
	$(BIN)/python -m tests.robustness.record inputs -m pytest -m "slow or not slow" tests/robustness/test_bad_inputs.py tests/robustness/test_safety.py tests/lab/training/test_nan_guard.py tests/robustness/test_determinism.py
	$(BIN)/python -m tests.robustness.record properties -m pytest -m "slow or not slow" tests/robustness/test_properties_masks.py tests/robustness/test_properties_losses.py tests/robustness/test_properties_files.py
	$(BIN)/python -m tests.robustness.record settings -m pytest -m "slow or not slow" tests/lab/config/test_every_setting.py
	$(BIN)/python -m tests.robustness.record masks -m tests.robustness.mask_boxes --sets 100000
	$(BIN)/python -m tests.robustness.record kills -m tests.robustness.kill_matrix --kills 30
	$(BIN)/python -m tests.robustness.record runs -m tests.robustness.leaks --runs 50
	$(BIN)/python -m tests.robustness.bad_inputs

notebooks: .venv/ready            ## run every notebook and write it with its outputs, at most fifteen minutes on two cores
	$(BIN)/python notebooks/build.py
	$(BIN)/python notebooks/check.py

docs: .venv/ready                 ## the site: API, pages, and the notebooks as committed, into site/html; readable without a network
	$(BIN)/python notebooks/site/build.py

book: docs                        ## the same

screenshots: .venv/ready          ## screenshots of the explorer in JupyterLab, into notebooks/images; needs chromium
	$(BIN)/python notebooks/screenshots.py

lab: .venv/ready                  ## JupyterLab, on this machine only, with a token
	$(BIN)/jupyter trust notebooks/*.ipynb >/dev/null
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

bench: .venv/ready                ## timings as ratios to a named baseline in the same run
	$(BIN)/python -m benchmarks

lock:                             ## pin the versions that pyproject.toml allows today; needs uv
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

dist: .venv/ready                 ## the wheel and the source archive, checked as an index would, into dist/
	rm -rf dist build && $(BIN)/python -m build --installer uv --quiet && $(BIN)/python -m twine check --strict dist/*

oldest: .venv/ready               ## the method's tests with the oldest torch that it takes, with Python 3.11 or 3.12; downloads 2.9 GB
	$(PYTHON) -m venv .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python $(OLDEST) || .venv-oldest/bin/python -m pip install --quiet $(OLDEST)
	.venv-oldest/bin/python -m pytest -m "not browser" tests/method tests/golden/test_golden_fgd.py tests/golden/test_golden_fbkd.py

clean:                            ## remove the environments and runs/; the cache stays
	rm -rf .venv .venv-oldest .venv-docs runs

help:                             ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(FITS)' || { echo "make must find Python 3.11 to 3.13, got none of $(PYTHONS); install one, or run make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock    # uv takes half the time; pip works where uv cannot reach the index
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
