# `make demo` hands sample databases over between two servers on this machine; `make test` runs every test.
VENV_PYTHON := .build/venv/bin/python

.PHONY: help demo demo-rollback demo-clean test clean

help:
	@echo "make demo           hand sample databases over between two PostgreSQL servers on this machine"
	@echo "make demo-rollback  only the one that is in use meanwhile: over, back, and over again"
	@echo "make demo-clean     stop those servers and remove what the demo made"
	@echo "make test           run every test (tests/run --help lists the steps)"
	@echo "make clean          remove the virtual environment and what the tests made"

demo:
	@lab/venv lab/requirements.txt
	@$(VENV_PYTHON) -m lab.demo

demo-rollback:
	@lab/venv lab/requirements.txt
	@$(VENV_PYTHON) -m lab.demo --rollback

demo-clean:
	@test ! -e .demo || test -x $(VENV_PYTHON) || lab/venv lab/requirements.txt
	@test ! -x $(VENV_PYTHON) || $(VENV_PYTHON) -m lab.demo --clean

test:
	@tests/run

clean: demo-clean
	@test ! -x $(VENV_PYTHON) || $(VENV_PYTHON) -m lab.builds --remove
	@rm -rf .build
