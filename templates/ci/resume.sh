#!/usr/bin/env bash
# Resumes every open run that waits, or whose process is gone. For a schedule; needs jq.
#
# A run that stopped for another reason (a failure, a halt, the end of its stage) waits for a person. A run that has
# not been approved yet goes no further than cutover, where the approval is asked for.
# Put this file into your repository as rotation/resume.sh.
set -euo pipefail

failed=0
for run in $(stanch runs --json | jq -r '.[] | select((.state | startswith("open")) and (.live | not)) | .run'); do
  # Only asked: it adds nothing to GitHub's summary.
  phase=$(GITHUB_ACTIONS='' stanch status "$run" --json |
    jq -r 'if .stopped == null or .stopped.why == "waiting" then .phase // "none" else "" end')
  case $phase in
    "") continue ;;
    overlap | sunset | revoke | proof) until=() ;;
    *) until=(--until cutover) ;;
  esac
  code=0
  stanch resume "$run" --no-wait "${until[@]}" || code=$?
  # 10 is also the end of a session in which a step failed; only a run that waits is in order.
  if [[ $code == 10 ]] && stanch report "$run" --form json | jq -e '.failures == [] and .unsettled == 0' >/dev/null; then
    code=0
  fi
  [[ $code == 0 ]] || failed=1
done
exit "$failed"
