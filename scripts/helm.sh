#!/usr/bin/env bash
# Builds helm once, into the cache, and prints where it is: tests hold the chart against it. Needs Go.
set -euo pipefail
version=3.19.0
folder=${OSM_CACHE:-/var/cache/osm}/helm-$version
mkdir -p "$folder"
# Two builds wait for each other, and the second finds it there.
exec 9>"$folder/lock"
flock 9
if [ ! -x "$folder/helm" ]; then
  command -v go >/dev/null || { echo "scripts/helm.sh: there is no go on PATH; install Go 1.24 or newer" >&2; exit 1; }
  echo "building helm $version into $folder: a few minutes, once" >&2
  GOBIN=$folder nice go install -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@v$version" >&2 9>&-
fi
echo "$folder/helm"
