# Builds the program that a cluster consists of, once for each content of what it is made of. Sourced by lifecycle.sh and
# ./test; needs steps.sh and setup.sh.
# shellcheck shell=bash

program_folder=$root/e2e/kubernetes/program
kubernetes_version=$(sed -n 's/^\tk8s.io\/kubernetes \(v.*\)$/\1/p' "$program_folder/go.mod")

# Outside the checkout, by the content of what it is made of.
cluster_program() {
  local made_of
  made_of=$(cat "$program_folder"/{go.mod,go.sum,main.go} | sha256sum | cut -c1-16)
  printf '%s/cluster-%s/cluster' "$cache" "$made_of"
}

build_cluster_program() {
  local program name="Kubernetes $kubernetes_version, etcd and CoreDNS as one program"
  program=$(cluster_program)
  set_up_cluster
  [ ! -x "$program" ] || return 0
  printf '%sits first build takes about ten minutes on two cores; progress: tail -f %s%s\n' \
    "$dim" "$(dirname "$program")/build.log" "$plain"
  step "$name" compile_cluster_program "$program"
}

# build_cluster_program_early [COMMAND]: begins the build in the background, behind everything else, and then the command;
# build_cluster_program later waits for what is left of it.
build_cluster_program_early() {
  local program
  program=$(cluster_program)
  set_up_cluster
  [ ! -x "$program" ] || return 0
  export -f compile_cluster_program compile
  root=$root program_folder=$program_folder kubernetes_version=$kubernetes_version \
    setsid nice -n 15 bash -c "compile_cluster_program '$program'; ${1:-true}" >/dev/null 2>&1 &
  early_build=$!
}

stop_early_build() {
  [ -z "${early_build:-}" ] || kill -TERM -- "-$early_build" 2>/dev/null
}

# Two builds of one program wait for each other, and the second finds it there.
compile_cluster_program() {
  local folder
  folder=$(dirname "$1")
  mkdir -p "$folder"
  (flock 8 && { [ -x "$1" ] || compile "$1" 8>&-; }) 8>"$folder/lock"
}

compile() {
  local base=k8s.io/component-base/version client=k8s.io/client-go/pkg/version minor log
  minor=$(printf '%s' "$kubernetes_version" | cut -d. -f2)
  log=$(dirname "$1")/build.log
  # -v names each of the two thousand packages once it is compiled.
  if ! (
    cd "$program_folder" &&
      CGO_ENABLED=0 GOFLAGS='-mod=readonly -buildvcs=false' nice -n 5 go build -v -trimpath -o "$1.new" -ldflags "-s -w \
        -X $base.gitVersion=$kubernetes_version -X $base.gitMajor=1 -X $base.gitMinor=$minor -X $client.gitVersion=$kubernetes_version" .
  ) >"$log" 2>&1; then
    tail -n 40 "$log"
    return 1
  fi
  mv "$1.new" "$1"
}
