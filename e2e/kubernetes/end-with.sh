#!/usr/bin/env bash
# Takes a cluster down when its owner has ended, however that ended.
set -u
owner=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
tail --pid="$owner" -f /dev/null
exec "$root/scripts/cluster" down
