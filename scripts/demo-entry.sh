#!/usr/bin/env bash
# Installs what is missing, builds, and shows the mesh at work on this machine; needs root.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
. scripts/steps.sh
. scripts/setup.sh

usage() {
  cat <<'TEXT'
usage: ./demo [--check] [--keep]

  --check  for scripts: plain text; the exit status says whether everything was as it should be
  --keep   leave the mesh up to play with
TEXT
}

keep=''
for argument in "$@"; do
  case $argument in
    --check) export NO_COLOR=1 bold='' green='' red='' dim='' plain='' ;;
    --keep) keep=--keep ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $argument" ;;
  esac
done

set_up_machine
export CARGO_TERM_COLOR=never
printf '%sthe first build takes about five minutes on two cores; progress: tail -f %s/build-programs.log%s\n' "$dim" "$log_folder" "$plain"
step "build: programs" cargo build --profile ci --workspace --bins --locked
scripts/demo.sh $keep
