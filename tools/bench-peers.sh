#!/bin/sh
# Measures llrt and its peers on this machine's CPU, in turns, and prints the table of docs/performance/cpu.md.
# tools/bench-peers.sh --help
exec python3 "$(dirname "$0")/bench_peers.py" "$@"
