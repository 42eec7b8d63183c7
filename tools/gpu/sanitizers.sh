#!/usr/bin/env bash
# compute-sanitizer on sanitize.py: memcheck, racecheck and synccheck side by side, and memcheck once more on an error
# that is planted there. check.sh calls it with PY, WORK, DEVICE and MOST, the seconds it may take.
# The status is 9 if a tool reports an error, 8 if the planted one is not found.
set -u
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 OMP_NUM_THREADS=2  # one allocation a tensor: no overrun ends in a neighbor's
TOOLS=(memcheck racecheck synccheck)
left=$((MOST - 4))  # they must end before this script is killed, which they would outlive: what they wrote is shown below
work=$((left > 55 ? 35 : left / 2))
if ((MOST > 3600)); then TOOLS+=(initcheck) work=$left; fi
port=49152  # each tool talks to its program over ports of its own

sanitize() { # the log's name, the tool, the arguments of sanitize.py
  local log=$1 tool=$2
  shift 2
  timeout -k 2 $((left - 2)) compute-sanitizer --tool "$tool" --port "$port" --kernel-name kns=pygan \
    --report-api-errors no --print-limit 20 --error-exitcode 9 "$PY" tools/gpu/sanitize.py "$@" >"$WORK/san-$log" 2>&1
}

processes=()
for tool in "${TOOLS[@]}"; do
  sanitize "$tool" "$tool" "$DEVICE" "$work" &
  processes+=($!) port=$((port + 100))
done
sanitize plant memcheck plant &
plant=$! status=0
for process in "${processes[@]}"; do wait "$process" || status=$?; done
wait "$plant"
planted=$?

for log in plant "${TOOLS[@]}"; do
  echo "--- $log"
  grep -a '=========' "$WORK/san-$log" | head -n 200 | cut -c1-250
  echo "..."
  tail -n 25 "$WORK/san-$log" | cut -c1-250
done
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
