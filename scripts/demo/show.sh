# How the demo speaks: chapters, sentences, checks, and what it waits for. Sourced by scripts/demo.sh.
# shellcheck shell=bash

failures=0
chapter_number=0

chapter() {
  chapter_number=$((chapter_number + 1))
  printf '\n%s%d. %s%s\n' "$bold" "$chapter_number" "$1" "$plain"
}

say() { printf '  %s\n' "$*"; }

# What a program printed, as it is but paler.
show() { sed "s/^/    ${dim}/; s/\$/${plain}/"; }

# check WHAT COMMAND...: says whether what should be so is so; if not, what the command said.
check() {
  local what=$1
  shift
  if "$@" >"$folder/check.log" 2>&1; then
    printf '  %sok%s  %s\n' "$green" "$plain" "$what"
  else
    not_so "$what" "$folder/check.log"
  fi
}

# wait_until WHAT COMMAND...: looks again until the command succeeds, a while at most, and shows that it waits.
wait_until() {
  local what=$1 began=$SECONDS patience=${patience:-20}
  shift
  until "$@" >"$folder/wait.log" 2>&1; do
    if [ $((SECONDS - began)) -ge "$patience" ]; then
      clear_progress
      not_so "waited $patience s until $what" "$folder/wait.log"
      return 1
    fi
    [ -z "$bold" ] || printf '\r  %s..  until %s (%d s)%s' "$dim" "$what" $((SECONDS - began)) "$plain"
    sleep 0.1
  done
  clear_progress
}

# On a terminal what was waited for is wiped away once it is there.
clear_progress() { [ -z "$bold" ] || printf '\r\e[K'; }

not_so() {
  printf '  %sNO%s  %s\n' "$red" "$plain" "$1"
  show <"$2"
  failures=$((failures + 1))
}

not() { ! "$@"; }

# is WHAT FOUND WANTED, and is_over WHAT FOUND LIMIT: say what was found when it is something else.
is() { [ "$2" = "$3" ] || { echo "$1: $2, not $3"; false; }; }
is_over() { [ "${2:-0}" -gt "$3" ] || { echo "$1: ${2:-nothing}, not more than $3"; false; }; }
