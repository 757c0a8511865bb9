#!/bin/sh
# An escape pack of Relevo: the project at one commit, wheels, inventory, the controller's key and secrets, and the printed runbook.
# The rest of this file is a program in clear, and behind it what is sealed with age, for several people of whom any one opens it.
#
# Needed: a bare host such as Debian 12 or 13 with the packages python3 and openssh-client, your identity of age, your ssh key.
#   1. sha256sum THIS_FILE                              the sum that was written down when it was made
#   2. sh THIS_FILE check                               whole, and for this host?
#   3. sh THIS_FILE unpack /opt/relevo -i IDENTITY_FILE
#   4. . /opt/relevo/escape/environment; more /opt/relevo/escape/README.txt
# Shares instead of an identity: sh THIS_FILE extract DIRECTORY, then DIRECTORY/combine_shares.py.
# Without this program: LC_ALL=C sed '1,/^#RELEVO-PAYLOAD$/d' THIS_FILE | tar -x; age --decrypt -i IDENTITY_FILE sealed.tar.age | tar -x
#: LABEL
if ! LC_ALL=C grep -q -a '^#RELEVO-PAYLOAD$' "$0"; then
    echo "DAMAGED: the pack: observed one that ends before its contents begin; expected what was packed. Next: take another copy of the pack." >&2
    exit 2
fi
if ! command -v python3 >/dev/null; then
    echo "WRONG_HOST: this host: observed no python3; expected the package python3. Next: install it from what the host has, or use another one." >&2
    exit 2
fi
if ! python3 -c 'import sys, tarfile, venv, zipfile; sys.exit(sys.version_info < (3, 7))' 2>/dev/null; then
    echo "WRONG_HOST: this host: observed $(python3 --version 2>&1) without its standard library; expected the package python3, not python3-minimal. Next: use such a host." >&2
    exit 2
fi
exec python3 - "$0" "$@" <<'RELEVO_PROGRAM'
