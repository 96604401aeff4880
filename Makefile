# genie-rt from a fresh clone: `make demo` plays, `make test` proves. Needs Python 3.11 or later and make.
#
#   make PYTHON=/path/to/python3.12     another interpreter for the virtual environment
#   make VENV=/path/to/env              another place for it
#   make CONSTRAINTS=                   the newest of every package, not what constraints.txt says

VENV  ?= .venv
BIN   := $(VENV)/bin
GENIE := $(BIN)/genie-rt
SAY   := @printf '\n== %s\n'

CONSTRAINTS ?= constraints.txt

# What each purpose installs. A stamp in the virtual environment remembers it until one of the two files changes.
EXTRAS_demo  := play,openvino
EXTRAS_train := play,train,coinrun,onnx,openvino
EXTRAS_test  := play,train,coinrun,onnx,openvino,dev
EXTRAS_docs  := docs

.DEFAULT_GOAL := help
.PHONY: help native native-if-possible demo test test-all lint format docs wheel train-demo clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

DEMO_ACTIONS := right*4 right+jump*4 right*10 left*6 right+jump*8 ...

JOBS ?= 2
native:  ## build the C library into out/native (CMake and a C++20 compiler)
	cmake --preset release
	cmake --build --preset release --target genie_rt --parallel $(JOBS)

# For what plays without the library too, only slower.
native-if-possible:
	@if command -v cmake >/dev/null && command -v $(or $(CXX),c++) >/dev/null; then \
	  $(MAKE) --no-print-directory native || echo "== the C library could not be built: other back ends play"; \
	else echo "== no CMake or C++ compiler here, so no C library: other back ends play"; fi

demo: $(VENV)/.installed-demo native-if-possible  ## play a shipped world without a window, then measure it
	$(SAY) "64 frames of the world demo-logged into out/demo.gif"
	$(GENIE) play demo-logged --headless --steps 64 --prompt 5 --actions "$(DEMO_ACTIONS)" --out out/demo.gif
	$(SAY) "how long a frame takes on this machine"
	$(GENIE) bench demo
	$(SAY) "play it yourself, with arrows and space:  $(GENIE) play demo-logged"

# Files of tests go to one worker per processor; WORKERS=0 runs all of them in one process.
WORKERS ?= auto
PYTEST   = $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations=10

test: $(VENV)/.installed-test  ## run the tests
	$(SAY) "tests"
	$(PYTEST) -m "not slow" $(PYTEST_FLAGS)

test-all: $(VENV)/.installed-test  ## run the tests, the long ones too
	$(SAY) "all tests"
	$(PYTEST) $(PYTEST_FLAGS)

lint: $(VENV)/.installed-test  ## ruff, and mypy in strict mode
	$(SAY) "ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(SAY) "mypy"
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the pages and the API reference into out/site
	$(SAY) "documentation"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open out/site/index.html"

# A demo world from video alone. A stopped run goes on where it was; RUN=folder starts another.
# glibc gives large tensors back to the kernel after every use; keeping them makes training on a CPU faster.
RUN             ?= runs/demo
CLIPS_FLAGS     ?= --frames 400000
TOKENIZER_FLAGS ?= --steps 3000 --compile
LAM_FLAGS       ?= --steps 800
DYNAMICS_FLAGS  ?= --steps 6000 --compile --checkpoint-every 50 --corruption 0.15 --ema-decay 0.998
PLAN            := --passes 2 --temperature 0.4 --noise 1.0
EXPORT           = $(GENIE) export $(RUN)/dynamics --out $(RUN)/bundle --name demo --overwrite --ema $(PLAN) \
                   --prompt $(RUN)/prompts/*.png --plans docs/demo-quality.json \
                   --int8 --clips $(RUN)/clips --plan default quality balanced fast
train-demo: export MALLOC_MMAP_MAX_ := 0
train-demo: export MALLOC_TRIM_THRESHOLD_ := 100000000000

$(RUN)/clips/store.json: | $(VENV)/.installed-train
	$(GENIE) data coinrun --out $(RUN)/clips $(CLIPS_FLAGS)

train-demo: $(RUN)/clips/store.json  ## record the game, train the demo world, export and judge it
	$(GENIE) train tokenizer --data $(RUN)/clips --out $(RUN)/tokenizer $(TOKENIZER_FLAGS)
	$(GENIE) train lam --data $(RUN)/clips --out $(RUN)/lam $(LAM_FLAGS)
	$(GENIE) train dynamics --data $(RUN)/clips --out $(RUN)/dynamics --tokenizer $(RUN)/tokenizer --lam $(RUN)/lam $(DYNAMICS_FLAGS)
	$(GENIE) data prompts $(RUN)/clips --out $(RUN)/prompts --frame 14
	$(EXPORT)
	$(GENIE) actions $(RUN)/bundle --map $(RUN)/clips --labels 200 --out $(RUN)/actions.png
	$(GENIE) evaluate $(RUN)/bundle --data $(RUN)/clips --game --json $(RUN)/figures.json
	$(GENIE) export $(RUN)/bundle --out $(RUN)/bundle --overwrite --metrics $(RUN)/figures.json
	$(SAY) "play it:  $(GENIE) play $(RUN)/bundle"

wheel: $(BIN)/pip  ## build the wheel into out/dist
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir out/dist .
	@rm -rf build && ls out/dist

clean:  ## remove what was built; keeps the virtual environment, data/ and runs/
	rm -rf out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The interpreter that was asked for, else the first one here that is new enough.
$(BIN)/pip:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    printf '== virtual environment %s with %s\n' "$(VENV)" "$$("$$python" --version)"; \
	    exec "$$python" -m venv "$(VENV)"; \
	  fi; \
	done; \
	echo "error: genie-rt needs Python 3.11 or later, found none as $(or $(PYTHON),python3.11, python3 or python);" \
	  "install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(BIN)/pip
	$(SAY) "installing genie-rt[$(EXTRAS_$*)]: PyTorch is large, so the first time takes minutes"
	@$(BIN)/pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[$(EXTRAS_$*)]"
	@touch $@

.SECONDARY: $(addprefix $(VENV)/.installed-,demo train test docs)
