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
.PHONY: help native native-if-possible sdk demo test test-python test-native test-native-here test-all test-native-all lint format docs \
        wheel train-demo clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

DEMO_ACTIONS := right*4 right+jump*4 right*10 left*6 right+jump*8 ...

# The native engine. CMAKE_FLAGS goes to CMake: CMAKE_FLAGS="-D CMAKE_CXX_COMPILER=clang++", say. Only a change of this
# project ought to fail for a warning, not the compiler that somebody has: CI sets WERROR=ON.
JOBS        ?= $(or $(shell nproc 2>/dev/null),2)
WERROR      ?= OFF
CMAKE_FLAGS ?=
CONFIGURE    = cmake --preset release -D GENIE_RT_WERROR=$(WERROR) $(CMAKE_FLAGS)
BUILD        = cmake --build --preset release --parallel $(JOBS)

native:  ## build the C library into out/native (CMake and a C++20 compiler)
	$(CONFIGURE)
	$(BUILD) --target genie_rt

sdk:  ## build and test the C library, and install it into out/sdk
	$(MAKE) --no-print-directory test-native-here
	cmake --install out/native --prefix out/sdk --strip

# Runs a target that needs a C++ compiler where there is one; $(2) says what comes of it elsewhere.
define if_possible
	@if cmake --list-presets >/dev/null 2>&1 && \
	   { command -v c++ || command -v g++ || command -v clang++; } >/dev/null; then \
	  $(MAKE) --no-print-directory $(1) $(3); \
	else echo "== no CMake 3.21 or C++ compiler here, $(2)"; fi
endef

# For what plays without the library too, only slower.
native-if-possible:
	$(call if_possible,native,so no C library: other back ends play,|| echo "== the C library could not be built: other back ends play")

demo: $(VENV)/.installed-demo native-if-possible  ## play a shipped world without a window, then measure it
	$(SAY) "64 frames of the world demo-logged into out/demo.gif"
	$(GENIE) play demo-logged --headless --steps 64 --prompt 5 --actions "$(DEMO_ACTIONS)" --out out/demo.gif
	$(SAY) "how long a frame takes on this machine"
	$(GENIE) bench demo
	$(SAY) "play it yourself, with arrows and space:  $(GENIE) play demo-logged"

# Files of tests go to one worker per processor; WORKERS=0 runs all of them in one process.
WORKERS ?= auto
PYTEST   = $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations=10

test: test-native test-python  ## run the tests, of the native engine and of the Python package

test-python: $(VENV)/.installed-test
	$(SAY) "tests"
	$(PYTEST) -m "not slow" $(PYTEST_FLAGS)

# First of all, for tests in Python load the library and run its programs.
test-native:
	$(call if_possible,test-native-here,so the tests of the native engine are skipped)

test-native-here:
	$(SAY) "tests of the native engine"
	$(CONFIGURE)
	$(BUILD)
	ctest --preset quick --parallel $(JOBS)

test-all: test-native $(VENV)/.installed-test  ## run the tests, the long ones too: hours
	$(SAY) "all tests"
	$(PYTEST) $(PYTEST_FLAGS)
	$(call if_possible,test-native-all,so the long tests of the native engine are skipped)

# NATIVE=names runs some of them: NATIVE="asan determinism".
test-native-all:  ## the long tests of the native engine: sanitizers, fuzzers, other compilers and systems
	$(SAY) "the native engine, the long tests"
	$(or $(wildcard $(BIN)/python),python3) runtime/native/tests/run_long.py $(NATIVE)

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
