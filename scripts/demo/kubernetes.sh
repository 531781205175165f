# The chapters of the demo on a real Kubernetes, and what they ask it. Sourced by scripts/demo-kubernetes.sh.
# shellcheck shell=bash

examples=examples/bookstore
shops=(bookbuyer bookthief bookstore bookwarehouse)

# On the throwaway cluster programs of this machine run inside the node's network; on the user's own, as they are.
reach=(scripts/cluster exec)
[ -z "$context" ] || reach=(env)
kubectl() { "${reach[@]}" kubectl ${context:+--context "$context"} "$@"; }
osm() { "${reach[@]}" target/ci/osm ${context:+--context "$context"} "$@"; }

# field PATH: the value in the JSON on standard input; 0 where there is none, as counters begin there.
field() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for step in sys.argv[1].split("."):
    value = (value or {}).get(step)
print(0 if value is None else value)' "$1"
}

# counters NAME: what the program of that Deployment counts, by a port of its own on this side.
counters() { "${reach[@]}" target/ci/osm-demo once "http://127.0.0.1:$(cat "$folder/$1.port")/counters" | sed 's/^status .* body //'; }
count() { counters "$1" | field "$2"; }
has_counted() { is_over "$2 of $1" "$(count "$1" "$2")" "$3"; }

never_failed() {
  local counted
  counted=$(counters "$1") || return
  is "requests of $1 that failed" "$(field failed <<<"$counted")" 0 || { field last_failure <<<"$counted"; false; }
}

summary() {
  counters "$1" | python3 -c '
import json, sys
c = json.load(sys.stdin)
stores = ", ".join(f"{books} from {store}" for store, books in c["books_by_store"].items())
statuses = ", ".join(f"{count} times {status}" for status, count in c["by_status"].items())
print(sys.argv[1] + ": " + str(c["books"]) + " books (" + stores + "); answers: " + statuses + "; failed: " + str(c["failed"]))' "$1"
}

forwards=()
# forward NAMESPACE DEPLOYMENT: makes its counters reachable; the API server carries it, not the mesh.
forward() {
  # Not by the function: what is killed at the end must be kubectl itself.
  "${reach[@]}" kubectl ${context:+--context "$context"} port-forward -n "$1" "deployment/$2" :14001 >"$folder/$2.forward" 2>&1 &
  forwards+=($!)
  wait_until "the counters of $2 are reachable" is_forwarded "$2"
}
is_forwarded() { sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$folder/$1.forward" >"$folder/$1.port" && [ -s "$folder/$1.port" ]; }
stop_forwards() { [ ${#forwards[@]} = 0 ] || kill "${forwards[@]}" 2>/dev/null; forwards=(); }

# must WHAT COMMAND...: what all that follows needs.
must() {
  local what=$1
  shift
  "$@" >"$folder/must.log" 2>&1 || { show <"$folder/must.log"; fail "$what did not work" "kubectl get pods -A says how far it came"; }
  show <"$folder/must.log"
}

install_the_mesh() {
  chapter "osm install"
  say "osm install ${install_flags[*]}"
  installed=yes
  must "osm install" osm install "${install_flags[@]}"
  check "the controller is ready" kubectl rollout status -n osm-system deployment/osm-controller --timeout=60s
}

open_the_bookstore() {
  local shop
  chapter "The bookstore, in permissive mode: everybody may buy"
  for shop in "${shops[@]}"; do must "the namespace $shop" kubectl create namespace "$shop"; done
  say "osm namespace add ${shops[*]}"
  must "osm namespace add" osm namespace add "${shops[@]}"
  must "permissive mode" set_permissive true
  # First who sells, then who buys: somebody who asks a shop that is not there yet fails in any mesh.
  open_shops bookwarehouse/bookwarehouse bookstore/bookstore-v1 bookstore/bookstore-v2 -- bookwarehouse bookstore
  open_shops bookbuyer/bookbuyer bookthief/bookthief -- bookbuyer bookthief
  kubectl get pods -n bookbuyer | show
  for shop in bookbuyer bookthief; do
    forward $shop $shop
    wait_until "$shop has three books" has_counted $shop books 2
    summary $shop | show
  done
  check "bookbuyer buys, and not even its first request, made before its proxy was ready, failed" never_failed bookbuyer
  check "bookthief buys as well, and nothing fails" never_failed bookthief
}

# open_shops DEPLOYMENT... -- MANIFEST...
open_shops() {
  local deployments=() manifests=() name
  while [ "$1" != -- ]; do deployments+=("$1"); shift; done
  shift
  for name in "$@"; do manifests+=(-f "$examples/$name.yaml"); done
  must "kubectl apply" kubectl apply "${manifests[@]}"
  for shop in "${deployments[@]}"; do
    must "the roll-out of $shop" kubectl rollout status -n "${shop%%/*}" "deployment/${shop##*/}" --timeout=120s
  done
}

set_permissive() {
  kubectl patch meshconfig osm-mesh-config -n osm-system --type=merge \
    -p "{\"spec\":{\"traffic\":{\"enablePermissiveTrafficPolicyMode\":$1}}}"
}

deny_the_thief() {
  local books
  chapter "SMI mode: bookthief is out, bookbuyer does not notice"
  must "the policies" kubectl apply -f $examples/policies.yaml
  must "SMI mode" set_permissive false
  wait_until "bookthief gets 403" has_counted bookthief by_status.403 0
  books=$(count bookthief books)
  wait_until "bookthief has tried six times in vain" has_counted bookthief by_status.403 5
  for shop in bookbuyer bookthief; do summary $shop | show; done
  check "bookthief gets 403, and no further book" is "books of the bookthief" "$(count bookthief books)" "$books"
  books=$(count bookbuyer books)
  wait_until "bookbuyer has bought two more" has_counted bookbuyer books $((books + 1))
  check "bookbuyer buys on, and has not lost a purchase since the beginning" never_failed bookbuyer
}

pod_that_connects_at_once() {
  chapter "The pod of OSM issue 2316, and a Job with a sidecar"
  say "it connects once, at once, and is never started again; the Job asks the warehouse how many books it has sent"
  must "the pod" kubectl apply -f $examples/once.yaml -f $examples/stock-taking.yaml
  wait_until "bookbuyer/once is over" has_ended bookbuyer once
  kubectl logs -n bookbuyer once -c once | show
  check "it succeeded" kubectl wait -n bookbuyer --for=jsonpath='{.status.phase}'=Succeeded pod/once --timeout=1s
  check "the Job completes, although its pod has a sidecar" kubectl wait -n bookwarehouse --for=condition=Complete job/stock-taking --timeout=30s
}
has_ended() { kubectl get pod -n "$1" "$2" -o jsonpath='{.status.phase}' | grep -E 'Succeeded|Failed'; }

close_the_bookstore() {
  chapter "osm uninstall mesh"
  stop_forwards
  must "the namespaces go" kubectl delete namespace "${shops[@]}" --timeout=120s
  say "osm uninstall mesh --force --delete-namespace --delete-cluster-wide-resources"
  must "osm uninstall mesh" osm uninstall mesh --force --delete-namespace --delete-cluster-wide-resources
  installed=''
  check "no CRD, role or webhook of the mesh is left" nothing_left
}
nothing_left() {
  kubectl get customresourcedefinitions,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations -o name >"$folder/left" || return
  not grep -E 'openservicemesh|smi-spec|/osm' "$folder/left"
}
