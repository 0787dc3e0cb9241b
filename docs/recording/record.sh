#!/bin/sh
# Runs the demo in a terminal of its own and draws what it printed, as it was
# printed, into an animated SVG: record.sh OUT.svg. Needs go, node, npm and
# script(1). Nothing is edited: a demo that fails makes no picture.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${1:?usage: record.sh OUT.svg}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm install --prefix "$work" --no-audit --no-fund --loglevel=error svg-term-cli@2.1.1 >/dev/null

cat >"$work/session" <<'SESSION'
stty cols 100 rows 24
printf '$ '
sleep 1
for part in gap less ' ' demo; do printf '%s' "$part"; sleep 0.15; done
printf '\n'
exec gapless demo
SESSION
env -u NO_COLOR PATH="$top/bin:$PATH" TERM=xterm-256color LANG=C.UTF-8 \
	script --quiet --return --command "sh $work/session" --log-out "$work/out" --log-timing "$work/timing" >/dev/null </dev/null

node "$here/cast.js" "$work/out" "$work/timing" 100 24 >"$work/demo.cast"
"$work/node_modules/.bin/svg-term" --in "$work/demo.cast" --out "$work/demo.svg" --window --no-cursor --width 100 --height 24
size=$(wc -c <"$work/demo.svg")
if [ "$size" -gt 300000 ]; then
	echo "record.sh: the picture has $size bytes, 300000 are the limit" >&2
	exit 1
fi
mv "$work/demo.svg" "$out"
echo "wrote $out ($size bytes)"
