#!/usr/bin/env bash
# Load test over HTTP/2 with h2load, which sends one token in a run: one run for each kind of token
# of the corpus, and one without a token. Checks the status of every answer.
#
# Usage: [URL=http://127.0.0.1:8888] [DURATION=10] [CONNECTIONS=8] [STREAMS=10] [MIN_RATE=1000]
#        [MAX_P99_MS=50] [CORPUS=corpus.tsv] h2load.sh
set -euo pipefail
. "$(dirname "$0")/thresholds.sh"

get_corpus
reset_stats
kinds=$(cut -f1 "$directory/corpus.tsv" | sort -u)
log=$directory/log
: >"$log.all"

# Runs one kind for some seconds, with these options of h2load, and adds its answers.
run() {
    local kind=$1 expected=$2 seconds=$3
    shift 3
    rm -f "$log"
    h2load --duration "$seconds" --clients "${CONNECTIONS:-8}" --threads 1 \
        --max-concurrent-streams "${STREAMS:-10}" --log-file "$log" "$@" "$url/auth" \
        >"$directory/output" || cat "$directory/output"
    touch "$log"
    local unexpected
    unexpected=$(awk -v expected="$expected" '$2 != expected { count++ }
        END { print NR ? count + 0 : "no answers" }' "$log")
    if [ "$kind" = valid ]; then
        rate=$(awk -v seconds="$seconds" 'END { printf "%.0f", NR / seconds }' "$log")
    fi
    threshold "wrong answers: $kind" "$unexpected" at-most 0
    cat "$log" >>"$log.all"
}

rate=
for kind in $kinds; do
    IFS=$'\t' read -r _ status _ token _ < <(grep "^$kind	" "$directory/corpus.tsv")
    # Most of the time for good tokens.
    seconds=$duration
    [ "$kind" = valid ] || seconds=$(((duration + 9) / 10))
    run "$kind" "$status" "$seconds" --header "authorization: Bearer $token"
done
run missing 401 $(((duration + 9) / 10))

p99=$(cut -f3 "$log.all" | sort -n | awk '{ times[NR] = $1 }
    END { if (NR) printf "%.3f", times[int((NR * 99 + 99) / 100)] / 1000 }')
threshold "valid requests per second" "$rate" at-least "$min_rate"
threshold "latency p99 (ms)" "$p99" at-most "$max_p99_ms"
add_stats
finish
