#!/usr/bin/env bash
# Takes a cluster down when its owner has ended, however that ended; but not another one that is up there by then.
set -u
owner=$1 node=$2
. "$(dirname "$0")/place.sh"
while is_up && [ "$(cat "$folder/node.pid")" = "$node" ]; do
  [ -d "/proc/$owner" ] || exec "$root/scripts/cluster" down
  sleep 1
done
