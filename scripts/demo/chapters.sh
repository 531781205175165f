# The chapters of the demo, each of which shows one thing and checks it. Sourced by scripts/demo.sh.
# shellcheck shell=bash

examples=examples/bookstore

permissive_mode() {
  chapter "The bookstore, in permissive mode: everybody may buy"
  say "controller, router and pods come up in namespaces of their own: osm local up -f $examples/..."
  local_osm up -f $examples/namespaces.yaml -f $examples/mesh-config-permissive.yaml -f $examples/bookstore.yaml \
    -f $examples/bookwarehouse.yaml -f $examples/outside.yaml --images $examples/images.yaml >"$folder/up.log" 2>&1 ||
    { show <"$folder/up.log"; fail "the mesh did not come up" "see what it says above; its logs are in /run/osm-local/$name"; }
  local_osm apply -f $examples/bookbuyer.yaml -f $examples/bookthief.yaml >"$folder/up.log" 2>&1 ||
    { show <"$folder/up.log"; fail "bookbuyer and bookthief are not taken in" "see what it says above"; }
  buyer=$(pod_of bookbuyer/bookbuyer) thief=$(pod_of bookthief/bookthief)
  store=$(pod_of bookstore/bookstore-v1) warehouse=$(pod_of bookwarehouse/bookwarehouse)
  for pod in "$buyer" "$thief"; do
    wait_until "pod $pod is ready" is_pod_ready "$pod"
    wait_until "${pod%%/*} has three books" has_counted "$pod" books 2
  done
  local_osm status 2>/dev/null | sed '/SERVICE/,$d; /^$/d' | show
  for pod in "$buyer" "$thief"; do summary "$pod" | show; done
  check "bookbuyer buys, and not even its first request, made before its proxy was ready, failed" never_failed "$buyer"
  check "bookthief buys as well, and nothing fails" never_failed "$thief"
  check "the buyer's Envoy sent it" has_stat "$buyer" 'cluster.bookstore/bookstore|14001.upstream_rq_2xx'
  check "over TLS" has_stat "$buyer" 'cluster.bookstore/bookstore|14001.ssl.handshake'
  check "the store's Envoy received it" has_stat "$store" 'http.rds-inbound.14001.downstream_rq_2xx'
  check "over TLS" has_stat "$store" listener.0.0.0.0_15003.ssl.handshake
  check "the warehouse has sent new books" has_counted "$warehouse" books 0
}

smi_mode() {
  local load books
  chapter "SMI mode, switched on under load: bookthief is out, bookbuyer does not notice"
  say "meanwhile 50 new connections a second buy books under the bookbuyer's name"
  in_pod "$buyer" "$PWD/target/ci/osm-demo" load http://bookstore.bookstore:14001/buy-a-book/new --rate 50 --seconds 4 >"$folder/load.json" 2>&1 &
  load=$!
  books=$(count "$thief" books)
  wait_until "bookthief has bought another book" has_counted "$thief" books "$books"
  say "osm local apply -f $examples/policies.yaml -f $examples/mesh-config-smi.yaml"
  local_osm apply -f $examples/policies.yaml -f $examples/mesh-config-smi.yaml >"$folder/apply.log" 2>&1 || not_so "the policies are taken in" "$folder/apply.log"
  wait_until "bookthief gets 403" has_counted "$thief" by_status.403 0
  books=$(count "$thief" books)
  wait_until "bookthief has tried six times in vain" has_counted "$thief" by_status.403 5
  wait "$load"
  local_osm logs "$thief" -c bookthief | tail -n 1 | show
  for pod in "$buyer" "$thief"; do summary "$pod" | show; done
  check "bookthief gets 403, and no further book" is "books of the bookthief" "$(count "$thief" books)" "$books"
  check "each of the $(field tried <"$folder/load.json") purchases made across the switch succeeded" all_went_well "$folder/load.json"
  check "and so did each that the bookbuyer made itself" never_failed "$buyer"
  check "the stores go on to order from the warehouse" never_failed_to_order
}

all_went_well() {
  cat "$1"
  [ "$(field tried <"$1")" -gt 100 ] && [ "$(field tried <"$1")" = "$(field ok <"$1")" ]
}

never_failed_to_order() {
  local version
  for version in v1 v2; do
    is "orders of bookstore-$version that failed" "$(count "$(pod_of "bookstore/bookstore-$version")" restock_failures)" 0 || return
  done
}

encrypted_wire() {
  local outside before words='GET /buy-a-book/new|client-app: bookbuyer|books_sold'
  chapter "What the wire shows"
  say "two captures on the bridge at a time: a bookbuyer outside the mesh, and all pods inside ($examples/outside.yaml)"
  outside=$(address_of outside/bookbuyer)
  capture outside "tcp and host $outside"
  capture inside "tcp and net 10.244.0.0/16 and not host 10.244.0.1 and not host $outside"
  before=$(count "$buyer" books)
  wait_until "the bookbuyer inside has bought three books" has_counted "$buyer" books $((before + 2))
  wait_until "the capture outside is written" is_longer outside 3000
  wait_until "the capture inside is written" is_longer inside 3000
  local_osm exec --node -- pkill -INT -x tcpdump
  wait "${captures[@]}"
  say "outside the mesh, readable by anybody on the way:"
  grep -a -o -E "$words" "$folder/outside.pcap" | sort | uniq -c | show
  say "inside the mesh: $(stat -c %s "$folder/inside.pcap") bytes captured, readable words: $(grep -a -c -E "$words" "$folder/inside.pcap")"
  check "the capture outside the mesh shows purchases" grep -a -q 'GET /buy-a-book/new' "$folder/outside.pcap"
  check "the capture inside the mesh holds packets" is_longer inside 3000
  check "and none of the words" not grep -a -o -E "$words|HTTP/1|bookstore-v" "$folder/inside.pcap"
}

captures=()
# capture WHERE FILTER: packets on the bridge, in the background.
capture() {
  local_osm exec --node -- tcpdump -i osm0 --immediate-mode -U -Z root -w "$folder/$1.pcap" "$2" >/dev/null 2>&1 &
  captures+=($!)
  wait_until "the capture $1 has begun" test -s "$folder/$1.pcap"
}
is_longer() { is_over "bytes of the capture $1" "$(stat -c %s "$folder/$1.pcap")" "$2"; }

pod_of_issue_2316() {
  local pod
  chapter "The pod of OSM issue 2316"
  say "restartPolicy: Never; it connects once, at once, and gives up if that fails. Twice: with our hold, and without (as OSM does)"
  local_osm apply -f $examples/once.yaml >/dev/null 2>&1
  for pod in bookbuyer/once bookbuyer/once-without-hold; do
    wait_until "$pod is over" is_over_and_done $pod
    say "$pod: $(phase_of $pod)"
    local_osm logs $pod -c once | show
  done
  check "with the hold it succeeded" phase_is bookbuyer/once Succeeded
  check "without the hold it failed" phase_is bookbuyer/once-without-hold Failed
  check "because its connection was refused" was_refused bookbuyer/once-without-hold
  say "how its start went (osm local startup bookbuyer/once):"
  local_osm startup bookbuyer/once 2>&1 | show
}

was_refused() { local_osm logs "$1" -c once | grep 'Connection refused'; }

job_that_completes() {
  chapter "A Job that completes, although its pod has a sidecar"
  say "it asks the warehouse how many books it has sent: osm local apply -f $examples/stock-taking.yaml"
  local_osm apply -f $examples/stock-taking.yaml >/dev/null 2>&1
  wait_until "the Job is over" not job_is stock-taking Running
  local_osm logs bookwarehouse/stock-taking-0 -c stock-taking | show
  check "the Job is complete" job_is stock-taking Complete
  check "its pod succeeded, sidecar and all" phase_is bookwarehouse/stock-taking-0 Succeeded
  check "the sidecar carried its request, and ended when the work was done" had_sidecar_to_the_end bookwarehouse/stock-taking-0
}

# The timeline of a pod that is over says how its sidecar ended.
had_sidecar_to_the_end() {
  local_osm startup "$1" >"$folder/startup.log" 2>&1
  grep 'programmed: the gate is open' "$folder/startup.log" && grep 'envoy ended with exit code 0' "$folder/startup.log"
}

a_dead_controller() {
  local before envoy second
  chapter "A controller that dies, and nobody notices"
  local_osm exec --node -- pkill -STOP -x osm-controller
  say "the controller is frozen (SIGSTOP): from now on it answers nobody"
  before=$(count "$buyer" requests)
  wait_until "the bookbuyer has made a visit" is_between_visits "$before"
  envoy=$(envoy_process_of "$buyer")
  local_osm exec "$buyer" -c envoy -- kill -9 "$envoy"
  say "the bookbuyer's Envoy is killed (SIGKILL)"
  wait_until "the bookbuyer's Envoy is back" is_envoy_back "$buyer" "$envoy"
  check "Envoy is back, programmed from its agent's copy of the configuration" is_envoy_back "$buyer" "$envoy"
  say "a second bookbuyer is asked for: replicas: 2"
  sed "s/replicas: 1/replicas: 2/" $examples/bookbuyer.yaml >"$folder/two-buyers.yaml"
  local_osm apply -f "$folder/two-buyers.yaml" >/dev/null 2>&1
  wait_until "there is a second bookbuyer" second_buyer
  second=$(pod_of bookbuyer/bookbuyer 1)
  wait_until "the new pod says what it waits for" waits_for_the_controller "$second"
  local_osm startup "$second" 2>&1 | grep '^waits for' | show
  check "it waits, and says for whom" waits_for_the_controller "$second"
  before=$(count "$buyer" books)
  wait_until "two more books are bought" has_counted "$buyer" books $((before + 1))
  check "purchases go on, none has failed" never_failed "$buyer"
  local_osm exec --node -- pkill -KILL -x osm-controller
  say "the controller is killed (SIGKILL); the runner starts another"
  wait_until "the new pod is ready" is_pod_ready "$second"
  wait_until "the new pod has bought a book" has_counted "$second" books 0
  for pod in "$buyer" "$second"; do summary "$pod" | show; done
  check "the new pod started by itself, and its first request, made while it waited, did not fail" never_failed "$second"
  check "the first bookbuyer has not lost a purchase since the beginning" never_failed "$buyer"
}

second_buyer() { [ -n "$(pod_of bookbuyer/bookbuyer 1)" ]; }
waits_for_the_controller() { local_osm startup "$1" 2>&1 | grep 'waits for.*from osm-controller'; }

# is_between_visits BEFORE: both requests of a visit are over; the next begins in about a second. Whoever kills a proxy
# in between resets no connection.
is_between_visits() {
  local made
  made=$(count "$buyer" requests)
  is_over "requests of the bookbuyer" "$made" "$1" && is "half visits" $((made % 2)) 0
}

machine_as_before() {
  chapter "The machine itself"
  tables_of_the_machine >"$folder/during"
  check "its iptables, links, addresses and namespaces are what they were, with the mesh up" diff "$folder/before" "$folder/during"
  [ -z "$keep" ] || return 0
  local_osm down >"$folder/down.log" 2>&1 || not_so "the mesh goes down" "$folder/down.log"
  tables_of_the_machine >"$folder/after"
  check "and with the mesh gone" diff "$folder/before" "$folder/after"
  check "nothing of it is left in /run/osm-local" not test -e "/run/osm-local/$name"
}
