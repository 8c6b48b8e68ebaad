# Everything that is made here stays in this folder, in .venv, .cache and .build; `make clean` removes it all.
# What users put into dags/ is theirs, and is left alone.

PYTHON ?= python3
AIRFLOW := apache-airflow==3.3.*
CHROMIUM ?= $(shell command -v chromium || command -v google-chrome)

# What is set outside for another Airflow or another Python does not reach this one.
unexport $(filter AIRFLOW% _AIRFLOW% PYTHON% PYTEST% COVERAGE% VIRTUAL_ENV% KLING%,$(.VARIABLES))

export TMPDIR := $(CURDIR)/.build/tmp
export AIRFLOW_HOME := $(CURDIR)/.build/airflow-home
export XDG_CACHE_HOME := $(CURDIR)/.cache
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export UV_PYTHON_DOWNLOADS := never
export MYPY_CACHE_DIR := $(CURDIR)/.cache/mypy
export RUFF_CACHE_DIR := $(CURDIR)/.cache/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

stop = { echo "make: $(1)" >&2; exit 1; }

.PHONY: help demo airflow check lint package test coverage test-slow test-versions test-ui test-cluster test-cluster-full screenshots bench clean

help:
	@echo "make demo           make a video with a DAG on a real Airflow, against a local stand-in for Kling"
	@echo "make airflow        run Airflow with its UI, the example DAGs, yours in dags/ and the stand-in, until Ctrl-C;"
	@echo '                    make airflow SANDBOX="--max-concurrent 2 --api official"; SANDBOX=--help lists the options'
	@echo "make check          check style and types, and what the built package holds: make lint, make package"
	@echo "make test           run all tests, those on a real Airflow included"
	@echo "make coverage       show which lines the tests run that need no whole Airflow"
	@echo "make test-slow      run the tests that take many minutes"
	@echo "make test-versions  try every supported version of Airflow"
	@echo "make test-ui        open the pages in a browser, on Airflow 3.3 and 3.1"
	@echo "make test-cluster   make videos on a cluster, parts of which are killed meanwhile"
	@echo "make test-cluster-full  the same with 1,200 videos, for the benchmarks (40 minutes)"
	@echo "make screenshots    make test-ui, and put its pictures into docs/images"
	@echo "make bench          measure, beside what one would use otherwise (more than an hour)"
	@echo "make clean          remove everything that make made"
	@echo "The Python to use: make PYTHON=python3.12 ..."

demo: .venv/ready | .build/tmp
	@.venv/bin/python -m tests.system.demo

airflow: .venv/ready | .build/tmp
	@.venv/bin/python -m tests.system.playground $(SANDBOX)

check: lint package

# Without the shellcheck and pyflakes that some machines have and others have not.
lint: .venv/ready | .build/tmp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_*.yml

package: .venv/ready | .build/tmp
	@.venv/bin/python -m tests.package.check

# First what measures no time; then, by itself, what does; then what runs a whole Airflow. Each part runs although a test
# of the one before has failed.
test: .venv/ready | .build/tmp
	failed=0; part() { .venv/bin/python -m pytest --basetemp=.build/pytest --durations=10 "$$@" || failed=$$?; \
		[ $$failed -le 1 ] || exit $$failed; }; \
	part -m "not alone and not slow" --ignore=tests/system --numprocesses=logical --dist=worksteal; \
	part -m "alone and not slow" --ignore=tests/system; \
	part -m "not slow" tests/system; \
	exit $$failed

# Apart: it slows down each line of Python.
coverage: .venv/ready | .build/tmp
	.venv/bin/python -m pytest --basetemp=.build/pytest -m "not alone and not slow" --ignore=tests/system \
		--numprocesses=logical --dist=worksteal --cov

test-slow: .venv/ready | .build/tmp
	.venv/bin/python -m pytest --basetemp=.build/pytest -m slow --durations=0

test-versions: .venv/ready | .build/tmp
	@.venv/bin/python -m tests.versions.run

test-ui: .venv/ready | .build/tmp
	@test -x "$(CHROMIUM)" || $(call stop,no Chromium was found. On Debian: apt-get install chromium fonts-dejavu-core. Or name one: make CHROMIUM=/path/to/chrome test-ui)
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --group ui || $(call stop,the packages could not be installed. Is the Python package index within reach?)
	CHROMIUM="$(CHROMIUM)" .venv/bin/python -m pytest --basetemp=.build/pytest-ui --durations=10 tests/ui

test-cluster: .venv/ready | .build/tmp
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --group cluster || $(call stop,the packages could not be installed. Is the Python package index within reach?)
	.venv/bin/python -m pytest --basetemp=.build/pytest-cluster -s tests/cluster

test-cluster-full: .venv/ready | .build/tmp
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --group bench --group cluster || $(call stop,the packages could not be installed. Is the Python package index within reach?)
	@.venv/bin/python -m tests.benchmarks cluster

screenshots: test-ui
	@mkdir -p docs/images
	cp $(addprefix .build/screenshots/3.3/,$(addsuffix .png,run failed decision connection)) docs/images/

bench: .venv/ready | .build/tmp
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --group bench || $(call stop,the packages to compare with could not be installed. Is the Python package index within reach?)
	@.venv/bin/python -m tests.benchmarks

clean:
	rm -rf .venv .cache .build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || $(call stop,$(PYTHON) was not found. Python 3.11 or later is needed: make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(call stop,$(PYTHON) is too old: Python 3.11 or later is needed. Name another: make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call stop,$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv)
	@$(PYTHON) -m venv --clear .venv || $(call stop,$(PYTHON) could not make .venv: see above)

# Tells that .venv is complete and as pyproject.toml wants it.
.venv/ready: pyproject.toml .venv/bin/pip | .build/tmp
	@echo "Setting up .venv (a minute or two the first time) ..."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv || $(call stop,uv could not be installed. Is the Python package index within reach?)
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --group dev -e '.[sandbox]' '$(AIRFLOW)' || $(call stop,the packages could not be installed. Is the Python package index within reach?)
	@touch $@

.build/tmp:
	@mkdir -p $@
