#!/usr/bin/env bash
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

# Brings up what the tests need beside Go, make and git: a PostgreSQL server's
# binaries. Does nothing where there are some, where OTELAUDIT_TEST_POSTGRES
# names a server, and where OTELAUDIT_WITHOUT lists postgres. An argument is the
# folder to look into beside those in PATH, instead of the usual ones.
set -euo pipefail

# As internal/pgtest finds them.
places=${1:-/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin}

found() {
	local folders folder
	IFS=: read -r -a folders <<<"$PATH"
	for folder in "${folders[@]}" $places; do # patterns: each time anew
		if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ]; then
			return 0
		fi
	done
	return 1
}

# The package would make a cluster and start it as a service. Tests make their
# own, so it is told not to.
install() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get update
	apt-get install --yes --no-install-recommends postgresql-common
	if [ -f /etc/postgresql-common/createcluster.conf ]; then
		sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	fi
	apt-get install --yes --no-install-recommends postgresql
}

if [ -n "${OTELAUDIT_TEST_POSTGRES:-}" ] || [[ ,${OTELAUDIT_WITHOUT:-}, == *,postgres,* ]] || found; then
	exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	install
	if found; then
		exit 0
	fi
fi
echo 'The tests need a PostgreSQL server, and none is installed. Install it:
	Debian, Ubuntu:  apt-get install postgresql   (as root, `make deps` does it)
	macOS:           brew install postgresql
or set OTELAUDIT_TEST_POSTGRES to the URL of a server on which they may create databases,
or do without the tests that need one: OTELAUDIT_WITHOUT=postgres' >&2
exit 1
