# Shared by ./demo, ./test and scripts/setup: steps that say what they do, how long they took, and why they failed.
# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold='' green='' red='' dim='' plain=''
fi

log_folder=${OSM_LOG_FOLDER:-build/logs}
mkdir -p "$log_folder"
steps_taken=()

# step NAME COMMAND...: runs the command with its output in a log; on failure shows the end of the log and stops.
step() {
  local name=$1 log start took
  shift
  log="$log_folder/$(printf '%s' "$name" | tr -cs 'a-zA-Z0-9' '-').log"
  start=$(date +%s%N)
  printf '%s==>%s %s ' "$bold" "$plain" "$name"
  if "$@" >"$log" 2>&1; then
    took=$(took_since "$start")
    steps_taken+=("$took  $name")
    printf '%sok%s %s(%s)%s\n' "$green" "$plain" "$dim" "$took" "$plain"
  else
    local status=$?
    printf '%sfailed%s %s(%s, exit status %s)%s\n' "$red" "$plain" "$dim" "$(took_since "$start")" "$status" "$plain"
    tail -n 60 "$log" >&2
    printf '\n%serror:%s %s failed; the whole output is in %s\n' "$red" "$plain" "$name" "$log" >&2
    exit 1
  fi
}

# shown_step NAME COMMAND...: the same with the output on the terminal, for what people want to watch.
shown_step() {
  local name=$1 start took
  shift
  start=$(date +%s%N)
  printf '%s==>%s %s\n' "$bold" "$plain" "$name"
  "$@" || fail "$name failed (exit status $?)"
  took=$(took_since "$start")
  steps_taken+=("$took  $name")
}

took_since() {
  local ms=$((($(date +%s%N) - $1) / 1000000))
  printf '%4d.%01d s' $((ms / 1000)) $((ms % 1000 / 100))
}

print_steps() {
  printf '\n%swhat each step took%s\n' "$bold" "$plain"
  printf '  %s\n' "${steps_taken[@]}"
}

# fail MESSAGE [HINT]: says what is wrong and what to do, and stops.
fail() {
  printf '\n%serror:%s %s\n' "$red" "$plain" "$1" >&2
  [ -z "${2:-}" ] || printf '\nhint: %s\n' "$2" >&2
  exit 1
}
