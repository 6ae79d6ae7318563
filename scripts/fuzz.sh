#!/usr/bin/env bash
# Runs every fuzz test of the repository for the given number of seconds each.
set -euo pipefail

go=${GO:-go} seconds=${1:-10}
for pkg in $("$go" list ./...); do
	for name in $("$go" test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" "$pkg"
	done
done
