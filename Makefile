# make check   what must pass before a commit
# make ci      the same in a fresh environment, as continuous integration does

PYTHON ?= .venv/bin/python

.PHONY: check lint test ci format clean

check: lint test

lint:
	.ci/lint $(PYTHON)

test:
	$(PYTHON) -m pytest

ci:
	.ci/run

format:
	$(PYTHON) -m ruff check --fix .

clean:
	rm -rf build dist .venv *.egg-info .hypothesis .pytest_cache .ruff_cache
