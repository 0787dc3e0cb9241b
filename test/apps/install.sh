#!/bin/sh
# Installs the dependencies of every test app and builds the Next app.
# Quick when nothing changed: .installed in an app holds the checksum of what
# it was made from. Several of these may run at once: they take turns per app.
#
#   test/apps/install.sh [app…]      default: all
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- http express fastify koa ws next

# sum is the checksum of everything that an installation depends on.
sum() {
  {
    node --version
    find . -path ./node_modules -prune -o -path ./.next -prune -o \
      -type f \( -name package.json -o -name package-lock.json -o -path './app/*' -o -name 'next.config.*' -o -name identity.js \) -print |
      LC_ALL=C sort | xargs cat
  } | cksum
}

install() (
  app=$1
  mkdir -p "$app/kit"
  for f in kit/*.js; do cmp -s "$f" "$app/$f" || cp "$f" "$app/$f"; done
  [ -f "$app/package-lock.json" ] || { echo "$app: nothing to install"; exit 0; }
  cd "$app"
  now=$(sum)
  if [ -d node_modules ] && [ "$(cat .installed 2>/dev/null)" = "$now" ]; then
    echo "$app: up to date"
    exit 0
  fi
  rm -f .installed
  echo "$app: npm ci"
  npm ci --no-audit --no-fund --loglevel=error
  if [ "$app" = next ]; then
    echo "$app: next build"
    NEXT_TELEMETRY_DISABLED=1 npm run --silent build
  fi
  sum >.installed
  echo "$app: installed"
)

for app in "$@"; do
  [ -f "$app/package.json" ] || { echo "install.sh: there is no app $app here" >&2; exit 2; }
  if command -v flock >/dev/null 2>&1; then
    ( flock 9; install "$app" ) 9<"$app/package.json"
  else
    install "$app"
  fi
done
