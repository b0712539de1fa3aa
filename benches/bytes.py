#!/usr/bin/env python3
"""Bytes a sample takes on the disk: the same samples into Campanile and into VictoriaMetrics, each by remote write.

    benches/bytes.py --campanile target/release/campanile --victoria victoria-metrics --capture node-15s.tsv
    benches/bytes.py ... --capture node-15s.tsv --align 15000        times rounded to the interval
    benches/bytes.py ... --capture node-1s.tsv --jitter 5            as late as a busy scraper: 0 to 5 ms, the same for all series
    benches/bytes.py ... --load devops --load-args --ticks 5760      what `benches/load.rs` generates; its last hours stay in our log

Both servers are stopped before their directories are measured. Campanile: all of `blocks/` (samples of the last hours
stay in the log, so one sample of a series of its own is sent last, at the present time, and the data ends hours earlier).
VictoriaMetrics: `data/` and `indexdb/`, after its forced flush and merge. Python 3.11, standard library only.
"""
import argparse
import http.client
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import time
import urllib.parse

HOUR = 3_600_000
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
BODY_SAMPLES = 20_000


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, payload):
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def snappy(data):
    """The block format with nothing but literals: servers take it, and no library is needed."""
    out = [varint(len(data))]
    for at in range(0, len(data), 65536):
        part = data[at : at + 65536]
        out.append(b"\xf4" + struct.pack("<H", len(part) - 1) + part)
    return b"".join(out)


def labels_of(name, extra):
    metric, _, rest = name.partition("{")
    unescape = lambda text: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)
    labels = {"__name__": metric, **{k: unescape(v) for k, v in LABEL.findall(rest)}, **extra}
    return b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in sorted(labels.items()))


def read_capture(path, align, jitter, end):
    """Returns encoded labels with times and values of each series, moved so that the last scrape is at `end`."""
    names, series, now = {}, {}, {}
    scrapes = []
    for line in open(path):
        head, *rest = line.rstrip("\n").split("\t")
        if head.startswith("#"):
            names[head[1:]] = rest[0]
        elif not line.endswith("\n"):
            break
        else:
            scrapes.append((int(head), rest))
    shift = end - scrapes[-1][0]
    if align:
        shift = shift // align * align
    last = None
    late = random.Random(7)
    for at, rest in scrapes:
        for pair in rest:
            index, _, value = pair.partition("=")
            if value == "-":
                now.pop(index, None)
            else:
                now[index] = float(value)
        at = (at + align // 2) // align * align if align else at
        at += late.randint(0, jitter)
        if at == last:
            continue  # Two scrapes that round to one time.
        last = at
        for index, value in now.items():
            times, values = series.setdefault(index, ([], []))
            times.append(at + shift)
            values.append(value)
    extra = {"instance": "localhost:9100", "job": "node"}
    return [(labels_of(names[index], extra), *columns) for index, columns in series.items()]


def bodies(series):
    """Yields request bodies: a stretch of some minutes of all series at a time."""
    longest = max(len(times) for _, times, _ in series)
    stretch = max(1, BODY_SAMPLES // len(series))
    for start in range(0, longest, stretch):
        message = bytearray()
        for labels, times, values in series:
            part = range(start, min(start + stretch, len(times)))
            samples = b"".join(field(2, b"\x09" + struct.pack("<d", values[i]) + b"\x10" + varint(times[i])) for i in part)
            if samples:
                message += field(1, labels + samples)
        yield snappy(bytes(message))


def post(port, path, body):
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 204):
        raise SystemExit(f"{path}: {answer.status} {text[:300]}")
    connection.close()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def wait_until(what, ready, seconds=120):
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"gave up waiting: {what}")


def size_of(directory):
    files = (os.path.join(at, name) for at, _, names in os.walk(directory) for name in names)
    return sum(os.path.getsize(file) for file in files)


def metric(port, name):
    """Returns the sum of a metric's series on the server's own page."""
    lines = get(port, "/metrics")[1].decode().split("\n")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))


def feed(args, port, send, pid):
    """Sends the data set; returns how many samples it has."""
    if args.load:
        command = [*args.generator.split(), "--url", f"http://127.0.0.1:{port}", "--pid", str(pid), "--data", args.load]
        said = subprocess.run([*command, *args.load_args], check=True, capture_output=True, text=True).stdout
        print(said.strip())
        return int(re.search(r"(\d+) samples,", said)[1])
    samples = 0
    for body in bodies(send):
        post(port, "/api/v1/write", body)
    samples = sum(len(times) for _, times, _ in send)
    return samples


def campanile(args, directory, series):
    port = args.port
    command = [args.campanile, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", directory]
    log = open(os.path.join(args.dir, "campanile.log"), "w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until("campanile", lambda: get(port, "/-/ready")[0] == 200)
        samples = feed(args, port, series, process.pid)
        now = int(time.time() * 1000)
        marker = [(labels_of("bytes_marker", {}), [now], [1.0])]
        post(port, "/api/v1/write", next(bodies(marker)))
        quiet = [0, None]

        def at_rest():
            """The head is small, and the number of compactions did not change for a while."""
            state = (metric(port, "prometheus_tsdb_compactions_total"), metric(port, "prometheus_tsdb_blocks_loaded"))
            quiet[0] = quiet[0] + 1 if state == quiet[1] and state[1] > 0 else 0
            quiet[1] = state
            time.sleep(2)
            return quiet[0] >= args.rest

        wait_until("blocks", at_rest, 900)
    finally:
        process.terminate()
        process.wait(60)
    blocks = os.path.join(directory, "tsdb", "blocks")
    said = subprocess.run([args.campanile, "tsdb", "list", "--layout", blocks], capture_output=True, text=True).stdout
    print(said)
    held = sum(int(row.split()[5]) for row in said.split("\n") if re.match(r"\d{16} ", row))
    return samples, held, {"blocks": size_of(blocks)}


def victoria(args, directory, series):
    port = args.port + 1
    command = [args.victoria, f"-storageDataPath={directory}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=12"]
    log = open(os.path.join(args.dir, "victoria.log"), "w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until("victoria-metrics", lambda: get(port, "/health")[0] == 200)
        samples = feed(args, port, series, process.pid)
        get(port, "/internal/force_flush")
        time.sleep(3)
        get(port, "/internal/force_merge")
        merging = lambda: metric(port, "vm_active_force_merges") + metric(port, "vm_active_merges") == 0
        wait_until("merges", merging, 300)
        time.sleep(3)
    finally:
        process.terminate()
        process.wait(60)
    parts = {"data": size_of(os.path.join(directory, "data")), "indexdb": size_of(os.path.join(directory, "indexdb"))}
    return samples, samples, parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campanile", help="our binary")
    parser.add_argument("--victoria", help="VictoriaMetrics's binary")
    parser.add_argument("--capture", help="a file of capture.py")
    parser.add_argument("--align", type=int, default=0, help="round times to so many milliseconds")
    parser.add_argument("--jitter", type=int, default=0, help="times are late by up to so many milliseconds")
    parser.add_argument("--load", help="a data set of benches/load.rs instead")
    parser.add_argument("--load-args", nargs=argparse.REMAINDER, default=[], help="more arguments of benches/load.rs, last")
    parser.add_argument("--generator", default="cargo bench --quiet --bench load --", help="how benches/load.rs is started")
    parser.add_argument("--port", type=int, default=9490, help="this port and the next are used")
    parser.add_argument("--rest", type=int, default=10, help="so many looks without a compaction mean that all is done")
    parser.add_argument("--dir", default=None, help="where the servers' directories are made, and removed again")
    args = parser.parse_args()
    args.dir = tempfile.mkdtemp(prefix="bytes-", dir=args.dir)
    end = int(time.time() * 1000) // (2 * HOUR) * 2 * HOUR - 2 * HOUR
    series = read_capture(args.capture, args.align, args.jitter, end) if args.capture else None
    if series:
        print(f"{args.capture}: {len(series)} series, {sum(len(times) for _, times, _ in series)} samples")
    totals = {}
    for name, run, binary in [("campanile", campanile, args.campanile), ("victoria", victoria, args.victoria)]:
        if not binary:
            continue
        directory = os.path.join(args.dir, name)
        sent, held, parts = run(args, directory, series)
        totals[name] = sum(parts.values()) / held
        rows = "  ".join(f"{part} {size / held:.4f}" for part, size in parts.items())
        print(f"{name}: {sent} samples sent, {held} measured, bytes per sample {totals[name]:.4f}  ({rows})")
    if len(totals) == 2:
        print(f"ratio {totals['campanile'] / totals['victoria']:.3f}")
    shutil.rmtree(args.dir)


if __name__ == "__main__":
    main()
