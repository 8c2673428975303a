# Each target sets up what it needs: a virtual environment with pinned versions, then the job.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

export PYTHONDONTWRITEBYTECODE :=  # compiled tests are kept, or each worker compiles them all anew

.PHONY: demo quick test test-slow test-reduced lint types docs bench clean

demo: $(VENV)/.demo
	$(BIN)/scorefield demo --out demo

# The oracles and laws alone, in half a minute: closed forms, published constants, contracts over every sampler,
# degradation and restorer. No training, no call of the program. (`tests/test_package.py` holds that all names exist.)
EQUATIONS := $(addprefix tests/test_,denoisers.py distributions.py model.py noise.py objectives.py parameterization.py) \
	$(addprefix tests/,schedules degradations)
QUICK := $(EQUATIONS) tests/objectives tests/metrics/test_distances.py \
	$(addprefix tests/samplers/test_,contract.py ode.py multistep.py ancestral.py consistent_annealed.py burn_in.py) \
	$(addprefix tests/restoration/test_,contract.py null_space.py observation_guidance.py repaint.py)

quick: $(VENV)/.dev
	$(BIN)/python -m pytest $(QUICK)

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# Long series of random files, recipes, checkpoints and kills; statistics repeated in other dimensions and cases.
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# The numerical tests once more with the kernels of a processor without AVX: no tolerance may hang on one kind.
# Left out are files, memory, the program's start, and what is statistics, which take long.
NUMERICAL := $(EQUATIONS) $(addprefix tests/,samplers networks hub) --ignore tests/samplers/test_sample.py

test-reduced: $(VENV)/.dev
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest $(NUMERICAL)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/basedpyright

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) docs/_build build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[figures]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps spandrel  # torchvision, for two networks that are not read, is not pinned
	@touch $@ $(VENV)/.demo
