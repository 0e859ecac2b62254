# Runs a proxy with Countersign behind it, as one server: sh behind-proxy.sh PROXY [ARGUMENT]...
cp @CORPUS@/countersign.cfg @STATE@/corpus.cfg
mkdir -p @STATE@/countersign
@PROGRAMS@/countersign serve --threads 1 --state-dir @STATE@/countersign -c @STATE@ &
countersign=$!
"$@" &
proxy=$!
trap 'kill $countersign $proxy' TERM
# A signal ends the first wait only.
wait
wait
