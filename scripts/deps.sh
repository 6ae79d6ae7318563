#!/usr/bin/env bash
# Finds PostgreSQL's server programs and redis-server, and on Debian and its kin installs what is missing. Elsewhere, or
# without the rights to install, it prints one line that says what to install.
#
# What it leaves behind is programs only: no cluster, no running service, no changed configuration. Clusters and services
# that are there already are not touched.
set -euo pipefail

readonly oldest_postgres=14 oldest_redis=7
readonly conf=/etc/postgresql-common/createcluster.conf policy=/usr/sbin/policy-rc.d saved=.walfence-saved

# The same places as internal/testkit looks in.
postgres_found() {
	local bin
	for bin in ${PG_BIN:-} /usr/lib/postgresql/${POSTGRES_VERSION:-*}/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
		/usr/local/opt/postgresql@*/bin "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
		[[ -x $bin/initdb && -x $bin/postgres ]] || continue
		[[ $("$bin/postgres" --version) =~ \ ([0-9]+) ]] && ((BASH_REMATCH[1] >= oldest_postgres)) && return
	done
	return 1
}

# Debian's redis-server is the program redis-check-rdb under another name, and redis-tools has it: without a service.
redis_found() {
	local path name
	for name in "${REDIS_SERVER:-}" redis-server redis-check-rdb; do
		[[ $name ]] && path=$(command -v "$name") || continue
		[[ $(exec -a redis-server "$path" --version) =~ v=([0-9]+) ]] && ((BASH_REMATCH[1] >= oldest_redis)) && return
	done
	return 1
}

missing() {
	postgres_found || echo postgresql
	redis_found || echo redis
}

give_up() {
	echo "install PostgreSQL $oldest_postgres or later (its server programs) and redis-server $oldest_redis or later, then try again: $1" >&2
	exit 1
}

as_root() {
	if ((EUID == 0)); then return; fi
	sudo -n true 2>/dev/null </dev/null || give_up "without root or sudo this cannot be done for you"
	exec sudo -n env "POSTGRES_VERSION=${POSTGRES_VERSION:-}" bash "$0"
}

restore() {
	local file
	for file in "$conf" "$policy"; do
		if [[ -e $file$saved ]]; then mv -f "$file$saved" "$file"; fi
	done
	if [[ -e $policy ]] && grep -q "$saved" "$policy"; then rm -f "$policy"; fi
}

finish() {
	local code=$?
	restore
	if ((code != 0)); then give_up "apt-get could not do it"; fi
}

# While packages are installed no service may start, whatever the policy was before.
forbid_services() {
	if [[ -e $policy ]]; then cp -pf "$policy" "$policy$saved"; fi
	printf '#!/bin/sh\n# by scripts/deps.sh, which restores what is in %s, if it is there, or removes this\nexit 101\n' \
		"$policy$saved" >"$policy"
	chmod 755 "$policy"
}

forbid_clusters() {
	install_packages postgresql-common
	cp -pf "$conf" "$conf$saved"
	echo 'create_main_cluster = false' >>"$conf"
}

install_packages() {
	apt-get install -y -qq --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null >&2
}

# postgres_package names the default version's package, which the package postgresql depends on.
postgres_package() {
	if [[ ${POSTGRES_VERSION:-} ]]; then
		echo "postgresql-$POSTGRES_VERSION"
	else
		apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p'
	fi
}

install_missing() {
	export DEBIAN_FRONTEND=noninteractive
	trap finish EXIT
	trap 'exit 1' INT TERM HUP
	restore # what an earlier run that was killed left behind
	apt-get update -qq </dev/null >&2
	forbid_services
	if [[ $1 == *postgresql* ]]; then
		forbid_clusters
		install_packages "$(postgres_package)"
	fi
	if [[ $1 == *redis* ]]; then install_packages redis-tools; fi
	restore
	trap - EXIT INT TERM HUP
}

main() {
	local want
	want=$(missing)
	if [[ -z $want ]]; then return; fi
	command -v apt-get >/dev/null || give_up "there is no apt-get here"
	as_root
	echo "installing what is missing: ${want//$'\n'/, }" >&2
	install_missing "$want"
	want=$(missing)
	if [[ $want ]]; then give_up "apt-get has none that is new enough"; fi
}

main
