#!/usr/bin/env bash
# The demo itself, once everything is built; called by ./demo. Brings up a mesh of its own, shows it, and takes it down.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/steps.sh

keep=''
[ "${1:-}" != --keep ] || keep=yes
name=demo
began=$(date +%s%N)
folder=$(mktemp -d)
failures=0

osm() { command target/ci/osm "$@"; }
local_osm() { local verb=$1; shift; osm local "$verb" --name "$name" "$@"; }
in_client() { local_osm exec "$1/client" -- "$PWD/target/ci/osm-demo" once "$2"; }

chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
say() { printf '  %s\n' "$*"; }
show() { sed "s/^/    ${dim}/; s/\$/${plain}/"; }

# check WHAT COMMAND...: says whether what should be so is so.
check() {
  local what=$1
  shift
  if "$@" >"$folder/check.log" 2>&1; then
    printf '  %sok%s  %s\n' "$green" "$plain" "$what"
  else
    printf '  %sNO%s  %s\n' "$red" "$plain" "$what"
    show <"$folder/check.log"
    failures=$((failures + 1))
  fi
}

# wait_until WHAT COMMAND...: looks again until the command succeeds, a minute at most.
wait_until() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" >"$folder/wait.log" 2>&1; do
    if [ $SECONDS -ge $deadline ]; then
      printf '  %sNO%s  waited a minute until %s\n' "$red" "$plain" "$what"
      show <"$folder/wait.log"
      failures=$((failures + 1))
      return 1
    fi
    sleep 0.1
  done
}

tables_of_the_machine() {
  iptables-nft-save 2>/dev/null | grep -v '^#'
  iptables-legacy-save 2>/dev/null | grep -v '^#'
  ip -o link
  ip netns list
}

phase_is() { [ "$(status_of "$1" phase)" = "$2" ]; }
status_of() {
  local_osm status -o json | python3 -c '
import json, sys
namespace, name = sys.argv[1].split("/")
for pod in json.load(sys.stdin)["pods"]:
    if (pod["namespace"], pod["name"]) == (namespace, name):
        print(pod[sys.argv[2]])' "$1" "$2"
}

finish() {
  status=$?
  trap - EXIT
  if [ -z "$keep" ]; then
    local_osm down >/dev/null 2>&1
  fi
  rm -rf "$folder"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

tables_of_the_machine >"$folder/before"

chapter "1. A mesh on this machine"
say "controller, router and pods come up in namespaces of their own: osm local up -f examples/shop/shop.yaml"
local_osm down >/dev/null 2>&1
local_osm up -f examples/shop/shop.yaml -f examples/shop/plain.yaml --images examples/images.yaml ||
  fail "the mesh did not come up" "see what it says above; its logs are in /run/osm-local/$name"
local_osm status | show

chapter "2. Two programs talk, through both Envoys"
say "shop/client asks http://server.shop/ in plain HTTP; neither program knows of the mesh"
wait_until "the server answers" in_client shop http://server.shop/
in_client shop http://server.shop/ | show
sent() { in_client shop 'http://127.0.0.1:15000/stats' | grep -E '^cluster.shop/server\|80\.(upstream_rq_2xx|ssl.handshake): [1-9]'; }
server=$(local_osm status -o json | python3 -c 'import json,sys; print(next(p["namespace"]+"/"+p["name"] for p in json.load(sys.stdin)["pods"] if p["name"].startswith("server-")))')
received() { local_osm exec "$server" -- "$PWD/target/ci/osm-demo" once http://127.0.0.1:15000/stats | grep -E '(inbound.*downstream_rq_2xx|15003.ssl.handshake): [1-9]'; }
sent | show
received | show
check "the client's Envoy sent it, over TLS" sent
check "the server's Envoy received it, over TLS" received

chapter "3. What the wire shows"
say "a capture on the bridge while pods outside the mesh talk, and while pods inside do"
bytes_captured() { [ "$(stat -c %s "$folder/$1.pcap")" -gt "$2" ]; }
# capture NAMESPACE: the packets while its client asks its server.
capture() {
  local tcpdump
  local_osm exec --node -- tcpdump -i osm0 --immediate-mode -U -Z root -w "$folder/$1.pcap" tcp >/dev/null 2>&1 &
  tcpdump=$!
  wait_until "the capture has begun" test -s "$folder/$1.pcap"
  for _ in 1 2 3 4 5 6 7 8 9 10; do in_client "$1" "http://server.$1/a-secret-order" >/dev/null; done
  # Ten requests and their answers are more than this, in plain text and encrypted.
  wait_until "the packets are written" bytes_captured "$1" 10000
  local_osm exec --node -- pkill -INT -x tcpdump
  wait "$tcpdump"
}
capture plain
capture shop
readable() { grep -a -o -E 'GET /a-secret-order|hello from server' "$folder/$1.pcap" | sort | uniq -c; }
say "outside the mesh, readable by anybody on the way:"
readable plain | show
say "inside the mesh: $(stat -c %s "$folder/shop.pcap") bytes captured, readable words: $(readable shop | wc -l)"
not() { ! "$@"; }
check "the capture outside the mesh shows the words" grep -q -a 'hello from server' "$folder/plain.pcap"
check "the capture inside the mesh holds packets" bytes_captured shop 10000
check "and none of the words" not grep -q -a -E 'secret-order|hello from|HTTP/1' "$folder/shop.pcap"

chapter "4. The pod of OSM issue 2316"
say "restartPolicy: Never; it connects once, at once, and gives up if that fails. Twice: with our hold, and without (as OSM does)"
local_osm apply -f examples/shop/once.yaml >/dev/null
over() { phase_is "$1" Succeeded || phase_is "$1" Failed; }
wait_until "shop/once is over" over shop/once
wait_until "shop/once-without-hold is over" over shop/once-without-hold
for pod in once once-without-hold; do
  say "shop/$pod: $(status_of "shop/$pod" phase)"
  local_osm logs "shop/$pod" -c once | show
done
check "with the hold it succeeded" phase_is shop/once Succeeded
check "without the hold it failed" phase_is shop/once-without-hold Failed
say "how its start went:"
local_osm startup shop/once | show

chapter "5. The machine itself"
tables_of_the_machine >"$folder/after"
check "its iptables, links and namespaces are what they were" diff "$folder/before" "$folder/after"

took=$((($(date +%s%N) - began) / 1000000))
printf '\n%sfrom manifests to the last check: %d.%01d s%s\n' "$bold" $((took / 1000)) $((took % 1000 / 100)) "$plain"
if [ -n "$keep" ]; then
  printf '\nthe mesh stays up. try:\n'
  printf '  target/ci/osm local status --name %s\n' "$name"
  printf '  target/ci/osm local exec --name %s shop/client -- %s once http://server.shop/\n' "$name" "$PWD/target/ci/osm-demo"
  printf '  target/ci/osm local logs --name %s shop/client -c envoy\n' "$name"
  printf 'and when done: target/ci/osm local down --name %s\n' "$name"
fi
[ $failures = 0 ] || fail "$failures of the checks did not hold" "run it again with --keep and look at: target/ci/osm local status --name $name"
printf '%severything is as it should be%s\n' "$green" "$plain"
