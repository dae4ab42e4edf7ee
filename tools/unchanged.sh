#!/usr/bin/env bash
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

# Runs a command and fails if it changed, added or removed a file of the work
# tree that git does not ignore. The tree need not be committed.
set -euo pipefail

snapshot() {
	git ls-files -co --exclude-standard | sort -u | while read -r file; do
		if [ -f "$file" ]; then
			printf '%s %s\n' "$(git hash-object "$file")" "$file"
		fi
	done
}

before=$(snapshot)
"$@"
if ! diff <(echo "$before") <(snapshot); then
	echo "changed by: $*" >&2
	exit 1
fi
