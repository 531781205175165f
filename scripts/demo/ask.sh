# What the demo asks the mesh, its pods and the machine. Sourced by scripts/demo.sh.
# shellcheck shell=bash

osm() { command target/ci/osm "$@"; }
local_osm() { local verb=$1; shift; osm local "$verb" --name "$name" "$@"; }

# in_pod POD COMMAND...: runs a command in the pod's own container.
in_pod() { local pod=$1; shift; local_osm exec "$pod" -- "$@"; }

# get POD URL: the body that the pod gets when it asks once.
get() { in_pod "$1" "$PWD/target/ci/osm-demo" once "$2" | sed 's/^status .* body //'; }

# field PATH: the value in the JSON on standard input; 0 where there is none, as counters begin there.
field() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for step in sys.argv[1].split("."):
    value = (value or {}).get(step)
print(0 if value is None else value)' "$1"
}

# One line for each pod: its name, phase, whether it is ready, address.
pods() {
  local_osm status -o json | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["pods"]:
    print(pod["namespace"] + "/" + pod["name"], pod["phase"], "ready" if pod["ready"] else "unready", pod["ip"])'
}

# pod_of NAMESPACE/WORKLOAD [NUMBER]: the name of one of its pods.
pod_of() { pods | awk -v first="$1-" -v last="-${2:-0}\$" 'index($1, first) == 1 && $1 ~ last { print $1 }'; }
phase_of() { pods | awk -v pod="$1" '$1 == pod { print $2 }'; }
readiness_of() { pods | awk -v pod="$1" '$1 == pod { print $3 }'; }
address_of() { pods | awk -v pod="$1" '$1 == pod { print $4 }'; }
phase_is() { is "pod $1" "$(phase_of "$1")" "$2"; }
is_pod_ready() { is "pod $1" "$(readiness_of "$1")" ready; }
is_over_and_done() { phase_is "$1" Succeeded || phase_is "$1" Failed; }

# job_is NAME STATE: what the runner says of a Job.
job_is() {
  is "Job $1" "$(local_osm status -o json | python3 -c '
import json, sys
print(*(job["state"] for job in json.load(sys.stdin)["jobs"] if job["name"] == sys.argv[1]))' "$1")" "$2"
}

# What a program of the bookstore counts.
counters() { get "$1" http://127.0.0.1:14001/counters; }
count() { counters "$1" | field "$2"; }
has_counted() { is_over "$2 of $1" "$(count "$1" "$2")" "$3"; }

# never_failed POD: not one of its requests has failed since it started; if so, the last of them.
never_failed() {
  local counted
  counted=$(counters "$1") || return
  is "requests of $1 that failed" "$(field failed <<<"$counted")" 0 || { field last_failure <<<"$counted"; false; }
}

# summary POD: its counters in a sentence.
summary() {
  counters "$1" | python3 -c '
import json, sys
c = json.load(sys.stdin)
stores = ", ".join(f"{books} from {store}" for store, books in c["books_by_store"].items())
statuses = ", ".join(f"{count} times {status}" for status, count in c["by_status"].items())
print(sys.argv[1] + ": " + str(c["books"]) + " books (" + stores + "); answers: " + statuses + "; failed: " + str(c["failed"]))' "${1%%/*}"
}

# stat POD NAME: a counter of the pod's Envoy.
stat_of() { osm proxy get stats --name "$name" "$1" | awk -F ': ' -v wanted="$2" '$1 == wanted { print $2 }'; }
has_stat() { is_over "$2 in the Envoy of $1" "$(stat_of "$1" "$2")" 0 && echo "$2 is above 0"; }

envoy_process_of() { local_osm exec "$1" -c envoy -- pgrep -x envoy; }
is_envoy_back() {
  is "the Envoy of $1 is the one before" "$([ "$(envoy_process_of "$1")" = "$2" ] && echo yes || echo no)" no &&
    get "$1" http://127.0.0.1:15904/osm-sidecar/ready
}

# What must be the same before and after. Packet counters move on their own.
tables_of_the_machine() {
  { iptables-nft-save; iptables-legacy-save; ip6tables-nft-save; } 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//'
  ip -o link | sed 's/ qlen .*//'
  ip -o address
  ip netns list
}
