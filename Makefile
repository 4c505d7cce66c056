# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PLANTED := planted_word,planted_pair,planted_match,planted_conjunction

# Nothing here asks the network for anything but packages.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1

# Models this small gain nothing from a second thread and lose a lot by waiting for one on a busy machine.
export OMP_NUM_THREADS := 1

.PHONY: demo test check format docs planted lock clean

demo: $(INSTALLED)
	$(BIN)/assay train -m task=$(PLANTED) 'output=.demo/models/$${task.name}' minimum_accuracy=0.98
	$(BIN)/assay run experiment=demo
	$(BIN)/assay leaderboard build .demo/results --out leaderboards/demo --tracker none

test: check
	sh tests/install_browser.sh $(BIN)/playwright
	$(BIN)/pytest -n auto --dist worksteal

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

planted: $(INSTALLED)
	$(BIN)/assay train -m task=$(PLANTED) 'output=.demo/models/$${task.name}' minimum_accuracy=0.98
	$(BIN)/assay run -m task=$(PLANTED) task.size=100 'model.path=.demo/models/$${task.name}' explainer=all \
		metric=ground_truth tracker=none results=.demo/planted
	$(BIN)/python benchmarks/planted.py .demo/planted docs/planted.csv
	$(BIN)/python docs/generate.py

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Assay needs Python 3.11 or later." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The local part of a version (+cpu) names one index's build, so it is cut off; what torch needs on CUDA, pip finds itself.
lock:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-find-links --all-extras \
		--output-file requirements.lock pyproject.toml
	sed -i.old -E -e 's/\+cpu$$//' -e '/^(cuda-|nvidia-|triton=|setuptools=)/d' requirements.lock && rm requirements.lock.old

clean:
	rm -rf .venv .demo leaderboards/demo .mypy_cache .ruff_cache .pytest_cache
