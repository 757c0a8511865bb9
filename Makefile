# The few commands of this project; each says what it does, `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help lab lab-down lab-purge

LAB = .venv/bin/ansible-playbook -i inventories/lab playbooks/lab.yml
LAB_RELEASE_OPTION = $(if $(LAB_RELEASE),-e lab_release=$(LAB_RELEASE))

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: pyproject.toml requirements.lock bin/bootstrap
	@bin/bootstrap
	@touch .venv

lab: .venv ## bring the laboratory up, or make it whole again (LAB_RELEASE=bookworm: Debian 12)
	$(LAB) $(LAB_RELEASE_OPTION)

lab-down: .venv ## remove the laboratory and all its state, whatever checkout made it
	$(LAB) -e lab_state=absent

lab-purge: .venv ## lab-down, and also remove the Debian trees kept for the next laboratory
	$(LAB) -e lab_state=purged
