#!/usr/bin/env bash
# Runs the unit, golden and property tests that ./test has built, and shows what failed and the counts.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=build/logs/tests.log
mkdir -p build/logs
cargo test --profile ci --workspace --all-targets --locked --no-fail-fast >"$log" 2>&1
status=$?
grep -E '^(test .* FAILED|---- .* stdout ----|.*panicked at|error)' "$log"
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "    %d passed, %d failed (output in '"$log"')\n", passed, failed }' "$log"
[ $status = 0 ] || sed -n '/^failures:$/,/^test result/p' "$log" | head -n 200
exit $status
