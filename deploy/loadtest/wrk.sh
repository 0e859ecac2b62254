#!/usr/bin/env bash
# Load test over HTTP/1.1 with wrk, which checks the answer to every request.
#
# Usage: [URL=http://127.0.0.1:8888] [DURATION=10] [CONNECTIONS=8] [MIN_RATE=1000]
#        [MAX_P99_MS=50] [CORPUS=corpus.tsv] wrk.sh
set -euo pipefail
here=$(dirname "$0")
. "$here/thresholds.sh"

get_corpus
reset_stats
# One thread for each connection: only then does wrk give a script the response to its last request.
connections=${CONNECTIONS:-8}
wrk --threads "$connections" --connections "$connections" --duration "${duration}s" \
    --script "$here/wrk.lua" "$url/auth" -- "$directory/corpus.tsv" "$directory/result" ||
    echo "wrk failed" >&2

value() { sed -n "s/^$1 //p" "$directory/result" 2>/dev/null || true; }
threshold "wrong answers" "$(value wrong)" at-most 0
threshold "connection errors" "$(value errors)" at-most 0
threshold "requests per second" "$(value rate)" at-least "$min_rate"
threshold "latency p99 (ms)" "$(value p99_ms)" at-most "$max_p99_ms"
add_stats
finish
