#!/usr/bin/env bash
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

# Runs every fuzzer of the module, one after the other, for FUZZTIME each.
set -euo pipefail

git grep --untracked -lE '^func Fuzz' -- '*_test.go' | sort | while read -r file; do
	package=./$(dirname "$file")
	for fuzzer in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
		go test "$package" -run '^$' -fuzz "^$fuzzer\$" -fuzztime "${FUZZTIME:-20s}"
	done
done
