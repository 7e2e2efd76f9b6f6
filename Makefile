PYTHON ?= python3
bin := .venv/bin
min := $(shell sed -n 's/^min_python *= *//p' settings.ini)

rooms := core data nets measure distill compare tasks viz runs course
ifneq ($(filter test,$(MAKECMDGOALS)),)
  ifneq ($(filter-out $(rooms),$(ROOM)),)
    $(error there is no room "$(ROOM)"; expected one of: $(rooms))
  endif
endif
quick := tests/repo/test_imports.py tests/repo/test_repo.py tests/core

# Real sets are unpacked into .venv, unless SSKD_DATA says where they are
unpack := $(if $(SSKD_DATA),,$(wildcard ../shared/data/unpack.py))
sets := $(if $(unpack),$(CURDIR)/.venv/sets,$(SSKD_DATA))

.PHONY: help demo check test test-all test-slow test-oldest test-colab bench lab docs course colab figures diagrams slides readme config clean
help:  ## what can be made here
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

demo: .venv/.core  ## distill the shipped teacher into a student; leaves a run folder
	@$(bin)/sskd_tutor demo $(ARGS)

check: .venv/.dev  ## what is quick to find out: lint, types, the law of rooms, notebooks in step, fast unit tests; under 3 minutes
	$(bin)/ruff check .
	$(bin)/mypy
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(bin)/python -m pytest -n auto -m "not slow and not long and not browser" $(quick) $(ARGS)

test: .venv/.dev  ## everything but the long and the slow tests, under 15 minutes on two cores; ROOM=distill for one room and its notebooks
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE ROOM=$(ROOM) $(bin)/python -m pytest -n auto --dist load $(if $(ROOM),tests/$(ROOM) tests/repo/test_notebooks.py) $(ARGS)

test-all: .venv/.dev  ## what CI runs: `make test` and the long tests, which tests/long.txt names
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(bin)/python -m pytest -n auto --dist load -m "not slow" $(ARGS)

test-slow: .venv/.dev  ## what is too long for every commit, one process a core; the dated outcome is benchmarks/results/test-slow.txt
	$(bin)/python -m pip install --quiet --no-deps 'torchdistill>=1.1'  # some rivals' losses are compared with its
	$(if $(unpack),$(bin)/python $(unpack) '$(sets)')
	@{ date -u +%F; git rev-parse --short HEAD; } > benchmarks/results/test-slow.txt
	SSKD_DATA='$(sets)' OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(bin)/python -m pytest -m slow -n auto --dist load -p no:cacheprovider --durations=0 $(ARGS) > .venv/test-slow.log 2>&1; status=$$?; \
	  cat .venv/test-slow.log; sed -n '/slowest/,$$p' .venv/test-slow.log >> benchmarks/results/test-slow.txt; exit $$status

test-oldest: .venv-oldest/.installed  ## core, measure and distill beside the oldest versions that settings.ini promises
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest tests/core tests/distill tests/measure $(ARGS)

test-colab: .venv/.dev .venv-colab/.pins  ## the lessons where Colab would run them: the wheel, the versions that Colab has, no clone
	$(bin)/python tools/try_colab.py $(ARGS)

bench: .venv/.core  ## speed and memory side by side, into benchmarks/results (10,000 JPEGs: benchmarks/folder.py); QUICK=1 takes under 10 minutes, into runs/
	$(bin)/python benchmarks/bench.py $(if $(QUICK),--quick) $(ARGS)

lab: .venv/.core  ## JupyterLab on the first page, with what the lessons need and no developers' tools
	$(bin)/jupyter-lab nbs/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

docs: .venv/.dev  ## the site from the notebooks, into _docs; a link that leads nowhere is an error
	$(bin)/python docs/build.py $(ARGS)

course: .venv/.dev  ## copies of the lessons for students and for instructors, into _course
	$(bin)/python tools/course.py $(ARGS)

colab: .venv/.dev  ## copies of the lessons for Colab, into colab/, to be committed
	$(bin)/python tools/colab.py $(ARGS)

figures: .venv/.dev  ## every figure that the lessons hold, as SVG and PNG, into _course/figures
	$(bin)/python tools/figures.py $(ARGS)

diagrams: .venv/.dev  ## the drawn diagrams of the lessons, as SVG, into nbs/images, to be committed
	$(bin)/python tools/diagrams.py $(ARGS)

slides: .venv/.dev  ## a deck of slides for each lesson, into _course/slides; they need no network
	$(bin)/python tools/slides.py $(ARGS)

readme: .venv/.dev  ## README.md from nbs/index.ipynb
	$(bin)/python tools/readme.py

config: .venv/.dev  ## pyproject.toml, environment.yml and all links from settings.ini
	$(bin)/python tools/config.py
	$(bin)/nbdev-export
	$(bin)/python tools/readme.py

clean:  ## outputs of the documentation and of builds; the environment and the runs stay
	rm -rf _proc _docs _course build dist .pytest_cache .ruff_cache

.venv/.core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(min)".split("."))))' || \
	  { echo "Python $(min) or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python$(min)"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(bin)/python tools/install.py --editable .
	@touch $@

.venv/.dev: .venv/.core
	@$(bin)/python tools/install.py --editable '.[dev]'
	@touch $@

.venv-colab/.pins: tools/colab_pins.txt .venv/.dev
	$(PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --constraint tools/colab_pins.txt $$($(bin)/python tools/colab.py --there)
	@touch $@

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python tools/oldest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/constraints.txt --editable . 'pytest>=8' 'pytest-xdist>=3.5' 'timm>=1' 'tensorboard>=2.18' \
	  'plum-dispatch<2.10'  # its 2.10 breaks the export of old fastais; fasttransform 0.0.5 says so
	@touch $@
