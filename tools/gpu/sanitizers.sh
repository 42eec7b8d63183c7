#!/usr/bin/env bash
# Runs compute-sanitizer on sanitize.py: memcheck, racecheck and synccheck in parallel, and memcheck again on a planted
# error. check.sh calls it with PY, WORK, DEVICE and MOST, the time limit in seconds.
# The status is 9 if a tool reports an error, and 8 if the planted error is not found.
set -u
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 OMP_NUM_THREADS=2  # one allocation a tensor: no overrun ends in a neighbor's
TOOLS=(memcheck racecheck synccheck)
left=$((MOST - 4))  # they must end before this script is killed, which they would outlive: what they wrote is shown below
work=$((left > 55 ? 35 : left / 2))
if ((MOST > 3600)); then TOOLS+=(initcheck) work=$left; fi
port=49152  # each tool talks to its program over ports of its own

# LOG TOOL [arguments of sanitize.py]; runs in the background, with timeout in place of the subshell.
sanitize() {
  local log=$1 tool=$2
  shift 2
  exec timeout -k 2 $((left - 2)) compute-sanitizer --tool "$tool" --port "$port" --kernel-name kns=pygan \
    --report-api-errors no --print-limit 20 --error-exitcode 9 "$PY" tools/gpu/sanitize.py "$@" >"$WORK/san-$log" 2>&1
}

show() {
  for log in plant "${TOOLS[@]}"; do
    echo "--- $log"
    grep -a '=========' "$WORK/san-$log" | head -n 200 | cut -c1-250
    echo "..."
    tail -n 25 "$WORK/san-$log" | cut -c1-250
  done
}

processes=()
# Each timeout leaves this process group, so that Ctrl-C does not reach the tools.
trap 'kill "${processes[@]}"; wait; show; echo stopped; exit 130' INT TERM
for tool in "${TOOLS[@]}"; do
  sanitize "$tool" "$tool" "$DEVICE" "$work" &
  processes+=($!) port=$((port + 100))
done
sanitize plant memcheck plant &
processes+=($!) status=0
for process in "${processes[@]::${#TOOLS[@]}}"; do wait "$process" || status=$?; done
wait "${processes[-1]}"
planted=$?

show
if ((planted == 9)); then echo "the planted error was found"; else
  echo "THE PLANTED ERROR WAS NOT FOUND: rc=$planted"
  status=8
fi
# The last line is what the summary shows.
cd "$WORK" || exit
found=""
for tool in "${TOOLS[@]}"; do
  counted=$(grep -aohE 'SUMMARY: [0-9]+ (errors?|hazards?)' "san-$tool" | tail -n 1 | cut -d' ' -f2-)
  found+="$tool: ${counted:-no summary} ($(grep -aohE '[0-9]+ calls' "san-$tool" | tail -n 1)); "
done
echo "${found}the planted error: $( ((planted == 9)) && echo found || echo "NOT FOUND, rc=$planted")"
exit $status
