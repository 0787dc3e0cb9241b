#!/bin/sh
# Installs the real programs that tests run: Debian's curl, prometheus with
# promtool, prometheus-alertmanager, and setcap. With "bench" also those that benchmarks measure against and with: nginx, haproxy,
# caddy and wrk.
# Does nothing where they are there already.
#
#   test/install.sh [bench]
set -eu
case "${1:-}" in
"" | bench) ;;
*)
	echo "install: $1 is not bench" >&2
	exit 2
	;;
esac
need=""
command -v curl >/dev/null 2>&1 || need="$need curl"
# Without setcap the one test that wants it is skipped and says so.
optional=""
command -v setcap >/dev/null 2>&1 || [ -x /usr/sbin/setcap ] || optional="libcap2-bin"
command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1 || need="$need prometheus"
command -v prometheus-alertmanager >/dev/null 2>&1 || need="$need prometheus-alertmanager"
if [ "${1:-}" = bench ]; then
	command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || need="$need nginx-light"
	command -v wrk >/dev/null 2>&1 || need="$need wrk"
	command -v haproxy >/dev/null 2>&1 || [ -x /usr/sbin/haproxy ] || need="$need haproxy"
	command -v caddy >/dev/null 2>&1 || need="$need caddy"
fi
if ! command -v apt-get >/dev/null 2>&1; then
	[ -n "$need" ] || exit 0
	echo "install:$need missing and this system has no apt-get; install by hand" >&2
	exit 1
fi
need="$need $optional"
[ "$need" != " " ] || exit 0
echo "install:$need"
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
export DEBIAN_FRONTEND=noninteractive
# Their services are not to be started: the tests start their own.
$sudo apt-get update -qq
printf '#!/bin/sh\nexit 101\n' >"${TMPDIR:-/tmp}/gapless-policy-rc.d"
if [ ! -e /usr/sbin/policy-rc.d ]; then
	$sudo install -m 755 "${TMPDIR:-/tmp}/gapless-policy-rc.d" /usr/sbin/policy-rc.d
	trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
fi
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $need >/dev/null
