#!/bin/sh
# Installs the real programs that tests and benchmarks run: Debian's nginx and
# wrk. Does nothing where they are there already.
set -eu
need=""
command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || need="$need nginx-light"
command -v wrk >/dev/null 2>&1 || need="$need wrk"
command -v curl >/dev/null 2>&1 || need="$need curl"
command -v setcap >/dev/null 2>&1 || [ -x /usr/sbin/setcap ] || need="$need libcap2-bin"
[ -n "$need" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "install:$need are missing and this system has no apt-get; install them by hand" >&2
	exit 1
fi
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
