# make repro     the whole pipeline on this machine        make test    tests, and every notebook against its outputs
# make results   a run's results into reports/ and README  make lint    style
# make site      all of it as pages, into build/site       make clean   remove the virtual environment
# make lab       JupyterLab with everything installed
# WORKERS=4 runs the tests in four processes; each takes up to 2 GB.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(abspath $(VENV))/bin
READY = $(VENV)/.ready
RUN = PATH="$(BIN):$$PATH"
PIP = "$(BIN)/python" -m pip install --disable-pip-version-check

.PHONY: repro results site test lint lab clean
repro: $(READY)
	@test -e .git || $(RUN) dvc config --local core.no_scm true
	$(RUN) dvc repro

results: $(READY)
	$(RUN) python -m rds_lib publish

site: $(READY)
	$(RUN) python docs/site/build.py

test: $(READY)
	$(RUN) python -m pytest -rs -n $(WORKERS) --dist loadfile
	$(RUN) python -m pytest --nbval notebooks/

lint: $(READY)
	$(RUN) ruff check
	$(RUN) ruff format --check

lab: $(READY)
	$(RUN) jupyter lab notebooks

clean:
	rm -rf "$(VENV)"

# sam2 comes as source and is built against the torch installed before it.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
	  { echo "error: $(PYTHON) is not Python 3.11 or 3.12; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear "$(VENV)"
	grep -v '^sam2==' requirements.lock > "$(VENV)/first.txt"
	grep '^sam2==' requirements.lock > "$(VENV)/last.txt"
	$(PIP) -r "$(VENV)/first.txt"
	SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation -r "$(VENV)/last.txt"
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@
