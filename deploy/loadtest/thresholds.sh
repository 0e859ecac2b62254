# Shared by the load test scripts: the tokens of the target, the judgement of the server, and the
# table of thresholds. A threshold that is missed makes the script exit with 1.

url=${URL:-http://127.0.0.1:8888}
duration=${DURATION:-10}
min_rate=${MIN_RATE:-1000}
max_p99_ms=${MAX_P99_MS:-50}

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
rows=$directory/rows
: >"$rows"

# Gets the tokens: those of CORPUS, a corpus.tsv of `countersign loadtest corpus`, or of the target.
get_corpus() {
    if [ -n "${CORPUS:-}" ]; then
        cp "$CORPUS" "$directory/corpus.tsv"
    elif ! curl --silent --show-error --fail --output "$directory/corpus.tsv" "$url/corpus"; then
        echo "$url/corpus: start the target with countersign serve --profile loadtest," >&2
        echo "or set CORPUS to a corpus.tsv of countersign loadtest corpus" >&2
        exit 2
    fi
}

# Sets the counters of the target to zero, if it judges answers.
reset_stats() {
    curl --silent --fail --output /dev/null --request DELETE "$url/stats" || true
}

# Adds the judgement of the target to the table, if it judges answers.
add_stats() {
    curl --silent --fail --output "$directory/stats" "$url/stats" || return 0
    local counts
    counts=$(sed -n 's/.*"checks":\([0-9]*\),"right":[0-9]*,"wrong":\([0-9]*\).*/\1 \2/p' \
        "$directory/stats")
    threshold "wrong answers, by the target" "${counts#* }" at-most 0
    threshold "answers judged by the target" "${counts% *}" at-least 1
}

# Adds a row: name, value, at-least or at-most, limit. A value that is not a number misses it.
threshold() {
    local mark
    mark=$(awk -v value="$2" -v bound="$3" -v limit="$4" 'BEGIN {
        is_number = value ~ /^[0-9]+(\.[0-9]+)?$/
        is_met = bound == "at-least" ? value + 0 >= limit + 0 : value + 0 <= limit + 0
        print is_number && is_met ? "✓" : "✗"
    }')
    printf '%s %-30s %12s  %s %s\n' "$mark" "$1" "${2:-unknown}" "${3/-/ }" "$4" >>"$rows"
}

# Prints the table, and exits with 1 if a threshold is missed.
finish() {
    echo
    cat "$rows"
    if grep -q '^✗' "$rows"; then
        exit 1
    fi
    exit 0
}
