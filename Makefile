# Everything below sets itself up: a fresh clone with Python 3.11, git and make is enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK ?= 1

.PHONY: help setup demo test test-vllm test-long test-crash vllm-env lint format bench bench-attention bench-synth bench-filters ladder clean

help:
	@echo "make demo       the whole loop on this machine's CPU: problems, traces, dataset, SFT, VAS"
	@echo "make test       the test suite (about 9 minutes on 2 cores)"
	@echo "make test-vllm  the tests against a real vLLM server"
	@echo "make test-long  what takes too long for these: FSDP, GRPO in two processes and with a vLLM server"
	@echo "make vllm-env   vLLM in an environment of its own, .venv-vllm"
	@echo "make test-crash 25 kills of a run and of its teacher; nothing is lost and nothing asked twice"
	@echo "make ladder     small students through the paper's stages: which of its claims hold (docs/ladder.md)"
	@echo "make lint       ruff and pyright"
	@echo "make bench      what the demo's parts cost"
	@echo "make bench-attention  what attention masses cost beside plain SDPA and full maps"
	@echo "make bench-filters  accuracy and throughput of every filter, on real data where it is there"
	@echo "make bench-synth  synthesis beside a plain aiohttp loop, with a stub server"

setup: $(STAMP)

# torch first and by itself: where pip knows a CPU build of this very version, it is kept.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "torch==2.13.0"
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/avar demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not vllm and not long" --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m tests.bench.pipeline

bench-attention: $(STAMP)
	$(BIN)/python -m tests.bench.attention

bench-filters: $(STAMP)
	$(BIN)/python -m tests.bench.filters

bench-synth: $(STAMP)
	$(BIN)/python -m tests.bench.synth

ladder: $(STAMP)
	$(BIN)/avar ladder

test-crash: $(STAMP)
	$(BIN)/python -m tests.crash --kills 25

vllm-env: $(VLLM_STAMP)

# The official wheel is a CUDA build; without a GPU, the CPU build that the tests use.
$(VLLM_STAMP): $(wildcard tests/vllm/*) pyproject.toml
	rm -rf $(VLLM_VENV)
	if command -v nvidia-smi >/dev/null; then \
		$(PYTHON) -m venv $(VLLM_VENV) && \
		$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1" && \
		$(VLLM_VENV)/bin/python -m pip install --quiet --group vllm; \
	else \
		PYTHON=$(PYTHON) tests/vllm/install_cpu.sh $(VLLM_VENV); \
	fi
	@touch $@

test-vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/python -m pytest -m "vllm and not long"

# Sharded and shared trainings in several processes; GRPO with a vLLM server that samples.
test-long: $(STAMP) $(VLLM_STAMP)
	$(BIN)/python -m pytest -m long

clean:
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
