# The few commands of this project; each says what it does, `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help lint docs fast test test-full molecule demo lab lab-down lab-purge

# What runs on the laboratory is recorded in the checkout, never beside the records of real sites.
export RELEVO_STORE := $(CURDIR)/.relevo
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTEST = .venv/bin/pytest
MOLECULE = MOLECULE_GLOB='tests/molecule/*/molecule.yml' molecule --base-config tests/molecule/config.yml
LAB = .venv/bin/ansible-playbook -i inventories/lab playbooks/lab.yml
LAB_RELEASE_OPTION = $(if $(LAB_RELEASE),-e lab_release=$(LAB_RELEASE))

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: pyproject.toml requirements.lock bin/bootstrap
	@bin/bootstrap
	@touch .venv

lint: .venv ## ruff, mypy, yamllint and ansible-lint
	ruff check .
	ruff format --check .
	mypy runner/relevo collections/ansible_collections/relevo
	yamllint --strict .
	ANSIBLE_INVENTORY=inventories/example ansible-lint

docs: .venv ## the documentation as a site in build/site; a broken link, or a page without a place, is an error
	PYTHONPATH=.:collections python -m docs.site.build

# Side by side: neither needs the other, and each keeps one core busy.
test: .venv ## every fast test, then the smoke scenarios on a new laboratory
	@bin/bootstrap browser
	$(MAKE) --no-print-directory --jobs=2 lint fast
	$(MAKE) --no-print-directory lab-down lab
	$(PYTEST) tests/integration -m smoke

fast:
	$(PYTEST) tests/unit tests/house tests/browser -m "not full"

test-full: test ## make test, then every other scenario, and those of Molecule
	$(PYTEST) tests/integration -m "not smoke"
	$(PYTEST) tests/browser -m full
	$(PYTEST) tests/mutation
	$(MAKE) --no-print-directory lab-down molecule
	$(PYTEST) tests/molecule
	$(MAKE) --no-print-directory lab-down

molecule: .venv ## every scenario of Molecule, one after the other on one laboratory, which stays up (SCENARIO=failover: only that one)
	$(MOLECULE) reset --scenario-name default
	$(MOLECULE) test $(if $(SCENARIO),--scenario-name $(SCENARIO),--all) --destroy=never

demo: .venv ## a site fails over in front of you: laboratory, protection, load, a killed primary, the record
	python bin/demo

lab: .venv ## bring the laboratory up, or make it whole again (LAB_RELEASE=bookworm: Debian 12)
	$(LAB) $(LAB_RELEASE_OPTION)

lab-down: .venv ## remove the laboratory and all its state, whatever checkout made it
	$(LAB) -e lab_state=absent

lab-purge: .venv ## lab-down, and also remove the Debian trees kept for the next laboratory
	$(LAB) -e lab_state=purged
