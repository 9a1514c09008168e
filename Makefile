# demo    a million real events end to end, counted, sent twice, a worker killed, verified
# up      Apache Kafka and ClickHouse's engine on this machine (ARGS="--brokers 3")
# test    every test, on the real stack             (ARGS="tests/unit -k fold"); most of them wait, so three at a time
# test-clients  programs in Java, Node and Go against the local stack, where their tools are installed
# test-doors    the clients of OpenMeter and Lago against the HTTP server, which are installed for it
# test-api      the HTTP API with generated clients and with schemathesis (EXAMPLES=10 SEED=1)
# test-deploy   the alert rules, with promtool; the Helm chart, with helm and kubeconform
# test-console  the console in Chromium, which is installed already; screenshots in .venv/console/screenshots
# test-long     backups: written while events are folded, restored, repaired by the log
# test-rolling  every worker is replaced under load; nothing is lost and nothing waits for long
# test-alerts   every alert rule is fired by a real fault, and resolved; needs promtool
# test-upgrade  the same from an earlier version (FROM=v0.1.0) to this one
# chaos   hundreds of faults on three brokers, then the proof (SEED=7 FAULTS=300 SECONDS=1200); see docs/chaos.md
# nightly the random tests for longer, with new seeds, then chaos with a new seed
# check   formatting, lint, types, schemas against the released ones, what the wheel holds, and the files of deploy/
# celery  the SDK in a real Celery worker, which is installed for it
# docs    the documentation as a site, in docs/_build/html
# bench   events per second and CPU per event, against a bare copy
# bench-peers  the fold beside other engines on the same events (ARGS="--only kafka_streams --runs 1")
# soak    an hour of steady load with restarts: memory, lag, parts and latency must not creep (SECONDS=600 RATE=5000)

.PHONY: demo up test test-api test-alerts test-clients test-console test-deploy test-doors test-long test-rolling
.PHONY: test-upgrade console-assets chaos nightly check celery docs bench bench-peers soak
.DEFAULT_GOAL := test

BIN := .venv/bin
PYTHON ?=
export PYTHON

demo: .venv/.installed-local
	@$(BIN)/meterfold demo $(ARGS)

up: .venv/.installed-local
	@$(BIN)/meterfold up $(ARGS)

test: .venv/.installed-dev
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/long --ignore tests/console $(ARGS)

test-console: .venv/.installed-browser .venv/console/axe.min.js
	@$(BIN)/python -m pytest tests/console $(ARGS)

console-assets:
	@$(BIN)/python tests/packaging/console_assets.py

.venv/console/axe.min.js: tests/console/axe.lock.json
	@$(BIN)/python tests/packaging/console_assets.py axe.lock.json .venv/console

test-long: .venv/.installed-dev
	@$(BIN)/python -m pytest tests/long $(ARGS)

test-clients: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m clients.run $(ARGS)

test-doors: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m doors.run $(ARGS)

test-api: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m api.run

test-deploy: .venv/.installed-dev
	@$(BIN)/python tests/deploy/promtool.py
	@$(BIN)/python tests/deploy/manifests.py || [ $$? -eq 3 ]

test-rolling: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m rolling

test-upgrade: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m rolling --upgrade $(if $(FROM),--from $(FROM))

test-alerts: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m alarms $(ARGS)

FAULTS ?= 300
chaos: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

nightly: .venv/.installed-dev
	@METERFOLD_SEED=new METERFOLD_SIMULATIONS=5000 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/unit tests/simulation $(ARGS)
	@$(MAKE) --no-print-directory test-long
	@$(MAKE) --no-print-directory chaos

check: .venv/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/python -m meterfold_schemas.compatibility
	@$(BIN)/python tests/packaging/check_wheel.py
	@$(BIN)/python -m pytest -q -n 2 tests/unit/deploy

celery: .venv/.installed-dev
	@PYTHONPATH=tests $(BIN)/python tests/packaging/check_celery.py

docs: .venv/.installed-docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: .venv/.installed-dev
	@$(BIN)/python benchmarks/bench.py $(ARGS)

bench-peers: .venv/.installed-dev
	@$(BIN)/python benchmarks/peers/run.py $(ARGS)

soak: .venv/.installed-dev
	@$(BIN)/python benchmarks/soak.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) $(ARGS)

.venv/.installed-local: pyproject.toml .ci/bootstrap
	@.ci/bootstrap local

.venv/.installed-browser: pyproject.toml .ci/bootstrap
	@.ci/bootstrap browser

.venv/.installed-docs: pyproject.toml .ci/bootstrap
	@.ci/bootstrap docs

.venv/.installed-dev: pyproject.toml .ci/bootstrap
	@.ci/bootstrap dev
