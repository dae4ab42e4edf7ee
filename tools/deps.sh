#!/usr/bin/env bash
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

# Brings up what the tests need beside Go, make and git: a PostgreSQL server's
# binaries, and Python, Node.js and Java for the OpenTelemetry SDKs of these
# languages. Does nothing where they are, and leaves out what OTELAUDIT_WITHOUT
# lists of postgres, python, node and java; where OTELAUDIT_TEST_POSTGRES names a
# server, that is enough. An argument is the folder to look into for PostgreSQL
# beside those in PATH, instead of the usual ones.
set -euo pipefail

# As internal/pgtest finds them.
places=${1:-/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin}

without() {
	[[ ,${OTELAUDIT_WITHOUT:-}, == *,$1,* ]]
}

found_postgres() {
	local folders folder
	IFS=: read -r -a folders <<<"$PATH"
	for folder in "${folders[@]}" $places; do # patterns: each time anew
		if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ]; then
			return 0
		fi
	done
	return 1
}

# One line for each thing that is missing: its name in OTELAUDIT_WITHOUT, then
# Debian's packages.
missing() {
	if [ -z "${OTELAUDIT_TEST_POSTGRES:-}" ] && ! without postgres && ! found_postgres; then
		echo postgres postgresql
	fi
	if ! without python && ! { python3 -c 'import ensurepip, venv' && openssl version; } >&2; then # Debian splits off what makes a venv
		echo python python3 python3-venv openssl
	fi
	if ! without node && ! { node --version && npm --version; } >&2; then
		echo node nodejs npm
	fi
	if ! without java && ! { javac -version && mvn --version; } >&2; then
		echo java default-jdk-headless maven
	fi
} 2>/dev/null

install() {
	local name packages
	export DEBIAN_FRONTEND=noninteractive
	apt-get update
	while read -r name packages; do
		if [ "$name" = postgres ]; then
			keep_postgres_from_starting
		fi
		apt-get install --yes --no-install-recommends $packages </dev/null
	done <<<"$1"
}

# The package would make a cluster and start it as a service. Tests make their
# own, so it is told not to.
keep_postgres_from_starting() {
	apt-get install --yes --no-install-recommends postgresql-common </dev/null
	if [ -f /etc/postgresql-common/createcluster.conf ]; then
		sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	fi
}

lacking=$(missing)
if [ -n "$lacking" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	install "$lacking"
	lacking=$(missing)
fi
if [ -z "$lacking" ]; then
	exit 0
fi
{
	echo 'The tests need what is not installed. Install it (on Debian and Ubuntu `make deps` does, as root), or do without its tests:'
	while read -r name packages; do
		case $name in
		postgres) brew='postgresql' ;;
		python) brew='python' ;;
		node) brew='node' ;;
		java) brew='openjdk maven' ;;
		esac
		echo "	$name:  apt-get install $packages  |  brew install $brew  |  OTELAUDIT_WITHOUT=$name"
	done <<<"$lacking"
	if [[ $lacking == *postgres* ]]; then
		echo 'For PostgreSQL, the URL of a server on which they may create databases in OTELAUDIT_TEST_POSTGRES will do as well.'
	fi
} >&2
exit 1
