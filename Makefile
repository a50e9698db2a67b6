# Thin calls: each target makes the environment if it is missing and runs one command of the package.
# `make help` shows the targets, and the variables from the lines that follow.
#: MODEL        what to compile, or whose build is meant: resnet50, timm:NAME, module:factory, x.onnx
#: WEIGHTS      auto, random, a torchvision name, or a .pth, .pt or .safetensors file
#: PRECISION    fp32,fp16,bf16,mixed,int8,fp8
#: TARGET       ort-cpu,openvino,tensorrt-rtx,... (make doctor lists them)
#: DATA         images to calibrate and to evaluate on, or to gate on: a folder, an .npz or an .npy
#: OUT          the build's folder, where it is not build/MODEL; where `make classify` writes
#: BUNDLE       what `make classify` labels with
#: SPEC         what `make sweep` builds: models, precisions, targets, hardware
#: OLD NEW      the builds that `make compare` compares (NEW: MODEL's or OUT)
#: THROUGHPUT   1: `make benchmark` also finds how many processes and threads answer most images
#: ARGS         anything else for the command: ARGS="--batches 1,8", ARGS="--format triton --out dist/models"
#: PYTHON       the interpreter that .venv is made with (python3)
#: EXTRA        cpu or gpu (gpu where an NVIDIA driver answers)
#: TORCH_INDEX  an index of PyTorch's CPU wheels, where PyPI's CUDA build is too large
#: WORKERS      processes that `make test` runs tests in, side by side (2)
#: RUNS         in how many `make test-ray` kills a node (20)
#: GRAPHS       how many random graphs `make fuzz-graphs` tries (5000)

PYTHON ?= python3
# The gpu extra where an NVIDIA driver answers, else cpu.
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/exporter

CONSTRAINTS := $(if $(filter cpu gpu,$(EXTRA)),-c constraints/$(EXTRA).txt,)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)
REHEARSAL := .venv-rehearsal
REHEARSAL_PIP := $(REHEARSAL)/bin/python -m pip install --quiet --disable-pip-version-check
SERVING := .venv-serving
SERVING_PIP := $(SERVING)/bin/python -m pip install --quiet --disable-pip-version-check
# Processes of `make test`; PyTorch gets one thread in each, and those of what is measured sleep while they
# wait: spinning, they would take the core from the other process.
WORKERS ?= 2
READY := $(VENV)/.ready-$(EXTRA)
READY_DEV := $(VENV)/.ready-$(EXTRA)-dev
READY_BENCH := $(VENV)/.ready-$(EXTRA)-bench
READY_ZOO := $(VENV)/.ready-$(EXTRA)-zoo
READY_DATA := $(VENV)/.ready-$(EXTRA)-data
READY_SWEEP := $(VENV)/.ready-$(EXTRA)-sweep
READY_RAY := $(VENV)/.ready-$(EXTRA)-ray
STORE := .venv-store

# A variable that is not set adds nothing to the command line: the command's own defaults hold.
OPTIONS = $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(PRECISION),--precision "$(PRECISION)") \
	$(if $(TARGET),--target "$(TARGET)") $(if $(DATA),--data "$(DATA)") $(ARGS)
# A build is named by its folder or by its model: the command knows where that one's lies.
BUILD = $(or $(OUT),$(MODEL),resnet20-digits)

.DEFAULT_GOAL := help
.PHONY: help docs setup export models trace validate gate evaluate classify benchmark capacity sweep explain compare report pack doctor \
	cache schema bench bench-quick retrain test lint test-variants test-gpu gpu-report \
	test-gpu-report rehearse-gpu test-browser test-serving test-ray test-store test-zoo fuzz-graphs clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "with VARIABLE=value after the target:"
	@sed -n 's/^#: /  /p' $(MAKEFILE_LIST)

$(READY): pyproject.toml $(wildcard constraints/*.txt)
	@echo "making $(VENV) with the $(EXTRA) extra (a few minutes on a new machine)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP_INSTALL) --editable '.[$(EXTRA)]'
	@touch $@

$(READY_DEV): $(READY)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),dev]'
	@touch $@

$(READY_BENCH): $(READY)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),bench]'
	@touch $@

$(READY_ZOO): $(READY_DEV)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),dev,timm]'
	@touch $@

$(READY_DATA): $(READY)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),data]'
	@touch $@

$(READY_SWEEP): $(READY)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),sweep]'
	@touch $@

$(READY_RAY): $(READY_DEV)
	@$(PIP_INSTALL) --editable '.[$(EXTRA),dev,ray]'
	@touch $@

setup: $(READY) ## Make .venv (again where pyproject.toml or the constraints changed)

export: $(READY) ## Compile MODEL (default: resnet20-digits) to verified engines and a report
	@$(RUN) export $(if $(MODEL),"$(MODEL)") $(OPTIONS) $(if $(OUT),--out "$(OUT)")

models: $(READY) ## The built-in models
	@$(RUN) models $(ARGS)

trace: $(READY) ## How a tensor moves through MODEL
	@$(RUN) trace "$(or $(MODEL),resnet34)" $(ARGS)

validate: $(READY) ## Replay the goldens through every engine of MODEL's build (or OUT)
	@$(RUN) validate "$(BUILD)" $(ARGS)

capacity: $(READY) ## How many machines a rate takes (ARGS="--rate 500 --slo-ms 100")
	@$(RUN) capacity "$(BUILD)" $(ARGS)

sweep: $(READY_SWEEP) ## Every model on every kind of hardware in SPEC (a .yaml file)
	@$(RUN) sweep $(if $(SPEC),"$(SPEC)") $(if $(OUT),--out "$(OUT)") $(ARGS)

gate: $(READY) ## May MODEL's engines (or OUT's) be released? Against the reference, on the images in DATA
	@$(RUN) gate "$(BUILD)" $(if $(DATA),--data "$(DATA)") $(ARGS)

evaluate: $(READY_DATA) ## How right MODEL's engines (or OUT's) are on the pictures in DATA, and how often they flip
	@$(RUN) evaluate "$(BUILD)" $(if $(DATA),--data "$(DATA)") $(ARGS)

classify: $(READY_DATA) ## Label the pictures in DATA with the bundle BUNDLE, into OUT (a folder of Parquet)
	@$(RUN) classify $(if $(BUNDLE),"$(BUNDLE)") $(if $(DATA),--data "$(DATA)") $(if $(OUT),--out "$(OUT)") $(ARGS)

benchmark: $(READY) ## Measure MODEL's build (or OUT) again against eager PyTorch (THROUGHPUT=1)
	@$(RUN) benchmark "$(BUILD)" $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(THROUGHPUT),--throughput) $(ARGS)

explain: $(READY) ## What each runtime made of each residual block in MODEL's build (or OUT)
	@$(RUN) explain "$(BUILD)" $(ARGS)

compare: $(READY) ## What changed from the build OLD to NEW (or MODEL's, or OUT)
	@$(RUN) compare $(if $(OLD),"$(OLD)") "$(or $(NEW),$(BUILD))" $(ARGS)

pack: $(READY) ## Pack MODEL's build (or OUT) for production
	@$(RUN) pack "$(BUILD)" $(ARGS)

cache: $(READY) ## What is kept from one export to the next (ARGS="--clear")
	@$(RUN) cache $(ARGS)

schema: $(READY) ## The JSON Schema of manifest.json
	@$(RUN) schema

bench-quick: $(READY_BENCH) ## Two models against the peers, with intervals (minutes)
	@$(BIN)/python -m benchmarks run --quick $(ARGS)

bench: $(READY_BENCH) ## The whole suite, what residual sums cost, scaling, roofs (an hour on 2 cores)
	@$(BIN)/python -m benchmarks run $(ARGS)
	@$(BIN)/python -m benchmarks residual
	@$(BIN)/python -m benchmarks scaling
	@$(BIN)/python -m benchmarks ceilings

report: $(READY) ## Write the report of MODEL's build (or OUT) again
	@$(RUN) report "$(BUILD)" $(ARGS)

doctor: $(READY) ## What this machine can build and run
	@$(RUN) doctor $(ARGS)

retrain: $(READY_DEV) ## Train MODEL, one of those inside the package, again from its embedded data
	@$(BIN)/python -m exporter.models.embedded "$(or $(MODEL),resnet20-digits)" $(ARGS)

docs: $(READY_DEV) ## This project's site, from the pages and the code, into build/site
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees docs build/site
	@echo "build/site/index.html"

lint: $(READY_DEV) ## Formatter, linter, strict types, and which part may import which
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/zizmor --offline --quiet .github/workflows
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint docker/*.Dockerfile; \
		else echo "no hadolint for this kind of machine: the Dockerfiles are not linted"; fi

test: lint ## Everything that continuous integration runs
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "not variants and not gpu and not gpu_report and not browser and not serving and not zoo and not fuzz \
		and not rehearsal and not ray and not store" \
		$(ARGS)

test-variants: $(READY_DEV) ## Every variant of the table through export, parity and receipt
	@$(BIN)/python -m pytest -m variants $(ARGS)

test-gpu: $(READY_DEV) ## Exactly the GPU tests; writes build/gpu-tests.xml to attach to a report
	@mkdir -p build
	@$(BIN)/python -m pytest -m gpu -rs --junit-xml=build/gpu-tests.xml $(ARGS)

# `bench` and `dev` bring the peers and the tests.
gpu-report: $(READY_DEV) $(READY_BENCH) ## What this machine's GPU says, in one archive to attach to an issue (25 minutes)
	@$(BIN)/python -m benchmarks.gpu_report $(if $(MODEL),--model "$(MODEL)") $(if $(TARGET),--target "$(TARGET)") $(ARGS)

test-gpu-report: $(READY_DEV) ## The GPU report, rehearsed on this machine's CPU
	@$(BIN)/python -m pytest -m gpu_report $(ARGS)

# The extra `gpu` as it is, but for TensorRT's libraries, which no index but NVIDIA's has: an empty
# wheel of their name. Then what the API contract is compared with, version by version, side by side.
$(REHEARSAL)/.ready: pyproject.toml $(wildcard constraints/*.txt tests/rehearsal/*.txt) tests/rehearsal/stand_ins.py
	@echo "making $(REHEARSAL) with the gpu extra (3 GB are downloaded, 7 GB unpacked)"
	@$(PYTHON) -m venv --clear $(REHEARSAL)
	@$(REHEARSAL)/bin/python tests/rehearsal/stand_ins.py $(REHEARSAL)/wheels
	@$(REHEARSAL_PIP) -c constraints/gpu.txt --find-links $(REHEARSAL)/wheels \
		--editable '.[gpu,dev]' -r tests/rehearsal/requirements.txt
	@sed '/^#/d' tests/rehearsal/contract.txt | while read -r pin; do \
		$(REHEARSAL_PIP) --no-deps --target "$(REHEARSAL)/contract/$$pin" "$$pin" || exit 1; done
	@touch $@

rehearse-gpu: $(REHEARSAL)/.ready ## The gpu extra on a machine without a GPU, as far as it goes (minutes)
	@$(REHEARSAL)/bin/python -m pytest -m rehearsal tests/rehearsal $(ARGS)

test-browser: $(READY_DEV) ## The report and a sweep's page in Chromium (apt-get install chromium; npm)
	@npm ci --ignore-scripts --no-audit --no-fund --prefix tests/browser
	@$(BIN)/python -m pytest -m browser $(ARGS)

# Triton's wheel wants numpy below 2 and MLflow wants it above, so each has an environment of its own;
# Node's packages beside them.
$(SERVING)/.ready: $(wildcard tests/serving/requirements*.txt) tests/serving/package-lock.json
	@$(PYTHON) -m venv --clear $(SERVING)
	@$(SERVING_PIP) -r tests/serving/requirements.txt
	@$(SERVING_PIP) --no-deps -r tests/serving/requirements-schema.txt
	@$(PYTHON) -m venv $(SERVING)/mlflow
	@$(SERVING)/mlflow/bin/python -m pip install --quiet --disable-pip-version-check \
		-r tests/serving/requirements-mlflow.txt
	@mkdir $(SERVING)/node
	@cp tests/serving/package.json tests/serving/package-lock.json $(SERVING)/node
	@if command -v npm >/dev/null; \
		then npm ci --ignore-scripts --no-audit --no-fund --prefix $(SERVING)/node; \
		else echo "no npm here: the tests in Node.js and the browser will be skipped"; fi
	@touch $@

test-serving: $(READY_DEV) $(SERVING)/.ready ## Real servers of Triton and MLflow, Node.js and Chromium on the packed formats
	@$(BIN)/python -m pytest -m serving -rs $(ARGS)

test-ray: $(READY_RAY) ## A Ray cluster of three nodes on this machine, some of them killed (15 minutes)
	@$(if $(RUNS),RUNS="$(RUNS)") $(BIN)/python -m pytest tests/cluster -m ray -s $(ARGS)

# s3fs and moto want another python-dateutil than the constraints: a folder that shadows it.
$(STORE)/.ready: tests/store/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade \
		--target $(STORE) -r tests/store/requirements.txt
	@touch $@

test-store: $(READY_DEV) $(STORE)/.ready ## Pictures in a real object server on this machine
	@$(BIN)/python -m pytest tests/store -m store -rs $(ARGS)

test-zoo: $(READY_ZOO) ## Strangers' networks on both CPU runtimes; writes build/zoo.md (7 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/zoo -m zoo -n $(WORKERS) \
		--zoo-table build/zoo.md $(ARGS)

fuzz-graphs: $(READY_DEV) ## GRAPHS random ONNX graphs (5000: an hour), each built or refused in one line
	@$(if $(GRAPHS),GRAPHS="$(GRAPHS)") OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -m fuzz -s $(ARGS)

clean: ## Remove the environment, the caches and build/
	rm -rf $(VENV) $(REHEARSAL) $(SERVING) $(STORE) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
