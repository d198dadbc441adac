#!/bin/bash
# Every test of the workspace, on real servers, and one line that counts them.
#   test.sh [ARGUMENTS OF cargo test]      (none: --workspace)
# Nothing is skipped: what a test needs and is not there makes it fail.
set -uo pipefail
cd "$(dirname "$0")/.."
hack/prerequisites.sh --install || exit 1
hack/databases.sh || exit 1
hack/kubernetes/build.sh || exit 1
logs=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease/logs
mkdir -p "$logs"
# Of the runs before, nine are kept.
find "$logs" -name 'test-*.log' -printf '%T@ %p\n' | sort -rn | tail -n +10 | cut -d' ' -f2- | xargs -rd'\n' rm -f
log=$logs/test-$(date -u +%Y%m%dT%H%M%SZ)-$$.log
(($#)) || set -- --workspace
cargo test --locked --config "target.'cfg(all())'.runner = '$PWD/hack/test-runner.sh'" --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
read -r passed failed ignored < <(awk '
  /^test result: / { gsub(";", ""); for (i = 2; i <= NF; i++) { if ($i == "passed") p += $(i-1); if ($i == "failed") f += $(i-1); if ($i == "ignored") g += $(i-1) } }
  END { print p + 0, f + 0, g + 0 }' "$log")
if ((status && !failed)); then echo "cargo test failed before or outside the tests (exit code $status)" >&2; fi
if ((status)); then
  # Once more, and last: what comes before fills many screens.
  echo; echo "What failed (all of the output: $log):"
  grep -A1 -E '^test .* FAILED$|panicked at |^error: |signal: ' "$log" | grep -vE '^(--|)$|^test .* ok$' | tail -n 100
fi
((ignored)) && grep -E '^test .* \.\.\. ignored' "$log"
echo
echo "$passed passed, $failed failed$( ((ignored)) && echo ", $ignored skipped")"
exit "$status"
