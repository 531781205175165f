#!/usr/bin/env bash
# Takes a cluster down when its owner has ended, however that ended; but not another one that is up there by then.
set -u
owner=$1
. "$(dirname "$0")/place.sh"
while [ "$(cat "$folder/owner" 2>/dev/null)" = "$owner" ]; do
  [ -d "/proc/$owner" ] || exec "$root/scripts/cluster" down
  sleep 1
done
