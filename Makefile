# The commands of the project. POSIX make; on a fresh machine Python 3.11 or newer is all that is needed.
# Everything runs in .venv, which is made on first use from requirements.lock and refreshed when that or
# pyproject.toml changes.

.POSIX:

PYTHON = python3
UV = uv
CONFIG = examples/quickstart.yaml
PYTEST_ARGS =
BENCH_ARGS =

VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

help:
	@echo 'make run     optimise the example portfolio (CONFIG=FILE for another one)'
	@echo 'make test    run the tests, without the long ones (PYTEST_ARGS="-m slow" runs those)'
	@echo 'make lint    check style, types and which room may import which'
	@echo 'make bench   measure against other libraries (BENCH_ARGS=... is passed on)'
	@echo 'make lock    renew requirements.lock from pyproject.toml (needs uv)'
	@echo 'make clean   remove .venv, caches and build outputs'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter that .venv is made with.'

run: $(READY)
	$(BIN)/portfolioopt optimize $(CONFIG)

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# pip's own report runs to pages, so it goes to a log: a dot for each package, and the end of the log on failure.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'portfolioopt needs Python 3.11 or newer, and "$(PYTHON)" is not: $(PYTHON) --version says' \
	    "`$(PYTHON) --version 2>&1 | head -n 1`."; \
	  echo 'Install one, then name it: make PYTHON=python3.12 ...'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo 'Could not make $(VENV). On Debian and Ubuntu: apt install python3-venv'; rm -rf $(VENV); exit 1; }
	@echo 'Installing the locked packages into $(VENV) (some hundred megabytes, once). A dot is a package:'
	@{ $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock 2>&1; \
	  echo "exit status $$?"; } | tee $(VENV)/install.log | \
	  $(BIN)/python -c 'import sys; \
	    [print(" unpacking" if line[0] == "I" else ".", end="", flush=True) for line in sys.stdin \
	     if line.startswith(("Collecting ", "Processing ", "Installing collected"))]; print()'
	@tail -n 1 $(VENV)/install.log | grep -q '^exit status 0$$' || { \
	  tail -n 20 $(VENV)/install.log; echo 'The install failed; all of it is in $(VENV)/install.log'; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)
	@echo 'Ready: $(VENV)'

# Universal: one file for Python 3.11 and up on every platform, with a hash for every file. It names no index.
lock:
	@command -v $(UV) >/dev/null || { echo 'make lock needs uv, for example: pip install uv'; exit 1; }
	$(UV) pip compile pyproject.toml --upgrade --universal --python-version 3.11 \
	  --fork-strategy requires-python --generate-hashes --extra dev --extra bench \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test lint bench lock clean
