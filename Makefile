# What a newcomer needs. Each target does its own set-up.
PYTHON ?= python3
UV = .tools/bin/uv
RUN = .venv/bin/python
WORKERS ?= 2
# Many of the fast tests wait for a daemon rather than work: one process more than there are processors fits.
TEST_WORKERS ?= 3
# Other people's programs, with waits of their own: one that missed its time on a busy machine is asked once more.
AGENT_TESTS = $(RUN) -m pytest tests/acceptance -m agents
COVERING = tests/unit/policy tests/unit/store tests/unit/engine tests/unit/web tests/contract/test_store.py

.PHONY: help setup demo browser test fuzz check lint cover api test-agents corpus-refresh crash drill sim bench bench-small clean
help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## make .venv with everything that is needed
.venv/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "locum needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(UV) || { $(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet 'uv>=0.13'; }
	@$(UV) sync --quiet --locked --system-certs --python $(PYTHON)
	@touch $@

demo: setup  ## see four tiers fail over, in under 20 seconds
	@$(RUN) demo/run.py

test: setup check  ## the whole fast suite, with the house rules
	$(RUN) -m pytest -n $(TEST_WORKERS) --dist worksteal tests -m "not agents and not browser and not slow"

fuzz: setup  ## the property tests on examples that nobody has tried yet
	LOCUM_EXAMPLES=fuzz $(RUN) -m pytest -n $(WORKERS) --dist worksteal tests/unit tests/contract -m "not agents and not browser and not slow"

check: setup  ## formatting, lint, types, layers
	$(RUN) -m ruff format --check --quiet src tests demo bench
	$(RUN) -m ruff check --quiet src tests demo bench
	$(RUN) -m mypy
	.venv/bin/lint-imports --no-cache

cover: setup  ## branch coverage of policy, store and engine: at least 95 %
	rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(RUN) -m coverage run -m pytest -n $(WORKERS) $(COVERING) -m "not agents and not browser and not slow"
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --include 'src/locum/policy/*,src/locum/store/*,src/locum/engine/*' --fail-under 95

crash: setup  ## kill -9 the real daemon 300 times, at named points and at random moments (CRASH_SEED=N repeats a plan)
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" tests/crash

browser: setup  ## the dashboard in headless Chromium (PICTURES=docs/images takes its pictures anew)
	@command -v chromium > /dev/null || apt-get install --yes --quiet chromium || { echo "install chromium first"; exit 1; }
	@$(UV) pip install --quiet --system-certs --python $(RUN) playwright==1.65.2
	@test -f .cache/browser/package/axe.min.js || { mkdir -p .cache/browser && cd .cache/browser && npm pack --silent axe-core@4.14.1 > /dev/null && tar xzf axe-core-4.14.1.tgz package/axe.min.js; }
	LOCUM_PICTURES="$(abspath $(PICTURES))" $(RUN) -m pytest -n 0 tests/browser -m browser

drill: setup  ## rehearse whole configurations with the real daemon, and daemons with one promise less
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" tests/drill

sim: setup  ## simulate 2,000 fresh seeds of six hours each (COUNT=n, FROM=n); SEED=n replays one and tells its story
	@$(RUN) -m tests.sim.run "$(SEED)" "$(COUNT)" "$(FROM)"

api: setup  ## thousands of requests made from the OpenAPI page, against the real daemon (LOCUM_API_CASES=n)
	$(RUN) -m pytest -n 0 -s -m "slow or not slow" tests/api

test-agents: setup  ## the real agent CLIs, against a mock provider
	$(RUN) tests/acceptance/install_agents.py
	$(AGENT_TESTS) -n $(WORKERS) --dist loadfile || $(AGENT_TESTS) -n 0 --last-failed --last-failed-no-failures none

corpus-refresh: setup  ## what the real agent CLIs write today beside what is recorded of them (ONLY="codex pi", INTO=folder)
	$(RUN) tests/acceptance/install_agents.py $(ONLY)
	@$(RUN) -m tests.corpus.refresh $(ONLY) $(if $(INTO),--into $(INTO))

bench: setup  ## measure the speed anew, into docs/benchmarks.md; ONLY="record bump" only tells those
	$(RUN) -m bench.run $(ONLY)

bench-small: setup  ## every benchmark once, at a tiny size, so that none of them rots
	$(RUN) -m pytest -n $(WORKERS) -m "slow or not slow" tests/bench

clean:  ## remove everything that was built
	rm -rf .venv .tools .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
