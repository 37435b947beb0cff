PYTHON ?= python

.PHONY: test lint verify bench figures papers coverage

test:  ## everything that CI runs under pytest, the notebook included
	$(PYTHON) -m pytest -n 2 --dist loadfile

lint:  ## style, types and import contracts
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	lint-imports

verify:  ## heavy statistical tests, samplers against one another: minutes
	$(PYTHON) -m pytest tests/verification

bench:  ## the tables of speeds, baselines included
	$(PYTHON) -m benchmarks.speed
	$(PYTHON) -m benchmarks.regimes
	$(PYTHON) -m benchmarks.laws
	$(PYTHON) -m benchmarks.moments
	$(PYTHON) -m benchmarks.images
	$(PYTHON) -m benchmarks.spectrum
	$(PYTHON) -m benchmarks.separability
	$(PYTHON) -m benchmarks.gradinit
	$(PYTHON) -m benchmarks.wide
	$(PYTHON) -m benchmarks.probe

papers:  ## the figures of the papers at their full budget, into pictures/: minutes (no training)
	sigprop figure all --budget paper --out pictures

figures: docs/overview.png  ## the picture of the README

docs/overview.png: figures/gallery/overview.py figures/sigprop.mplstyle
	mkdir -p build docs
	sigprop simulate --depth 1000 --scheme power --beta 0.5 --observe norm,gradient \
	    --force --out build/overview.nc
	sigprop plot build/overview.nc --out $@

coverage:  ## line coverage with the compiled kernels run as Python
	NUMBA_DISABLE_JIT=1 $(PYTHON) -m coverage run --source sigprop,analysis,figures -m pytest \
	    -W "ignore:overflow encountered:RuntimeWarning" tests
	$(PYTHON) -m coverage report --skip-covered
