#!/usr/bin/env bash
# Scrapes a real prometheus-node-exporter for a while under varied load, into numbered files that
# `cargo bench --bench load -- --data node --capture DIR` turns into remote-write bodies.
# usage: benches/capture_node.sh DIR [SCRAPES=240] [SECONDS_APART=1] [PORT=9178]
set -euo pipefail
dir=$1 scrapes=${2:-240} apart=${3:-1} port=${4:-9178}
mkdir -p "$dir"
prometheus-node-exporter --web.listen-address="127.0.0.1:$port" >"$dir/exporter.log" 2>&1 &
exporter=$!
trap 'kill "$exporter" 2>/dev/null || true' EXIT
for _ in $(seq 50); do curl -sf "http://127.0.0.1:$port/metrics" >/dev/null && break; sleep 0.1; done
for n in $(seq 0 $((scrapes - 1))); do
    # A fifth of the time each: idle, processor, memory, disk, network.
    case $((n / 12 % 5)) in
    1) timeout 0.3 sha256sum /dev/zero >/dev/null || true ;;
    2) head -c $((64 << 20)) /dev/zero | tail -c 1 >/dev/null ;;
    3) dd if=/dev/zero of="$dir/load" bs=1M count=8 conv=fsync status=none; rm -f "$dir/load" ;;
    4) for _ in 1 2 3; do curl -sf "http://127.0.0.1:$port/metrics" >/dev/null; done ;;
    esac
    curl -sf "http://127.0.0.1:$port/metrics" -o "$(printf '%s/%06d.prom' "$dir" "$n")"
    sleep "$apart"
done
