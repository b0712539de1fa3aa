"""A Debian Prometheus scrapes node_exporter and remote-writes to Campanile, unmodified; both then agree on what happened.

Queries are asked at one time on both sides. That time lies 30 ms behind a scrape at the earliest, so that no sample falls exactly on
a window's edge: Prometheus before 3.0 counted the left edge in, we (as 3.x) do not.
"""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

QUERIES = [
    "node_load1",
    "up",
    'sum by (mode) (rate(node_cpu_seconds_total[20s]))',
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "count by (__name__) ({__name__=~'node_network_.*_total'})",
    "topk(3, node_filesystem_size_bytes)",
    "max_over_time(node_load1[20s]) - min_over_time(node_load1[20s])",
    "sum(increase(node_context_switches_total[20s]))",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[20s])))",
    'label_replace(up, "host", "$1", "instance", "(.*):.*")',
    "avg without (cpu) (irate(node_cpu_seconds_total[20s])) > 0",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, query, at):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query, "time": at})
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def comparable(result):
    """Elements by their labels; the sender adds none, so they must be the same on both sides."""
    return {json.dumps(e["metric"], sort_keys=True): float(e["value"][1]) for e in result}


def same(a, b):
    return a.keys() == b.keys() and all(
        (math.isnan(a[k]) and math.isnan(b[k])) or math.isclose(a[k], b[k], rel_tol=1e-9, abs_tol=1e-12) for k in a
    )


def wait(what, seconds, question):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if question():
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"not within {seconds} s: {what}")


def main(campanile):
    folder = tempfile.mkdtemp(prefix="peers-")
    ours, theirs, exporter = free_port(), free_port(), free_port()
    with open(f"{folder}/campanile.yaml", "w") as f:
        f.write("agent: {enabled: false}\n")
    with open(f"{folder}/prometheus.yml", "w") as f:
        f.write(
            f"""
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]
- job_name: prometheus
  static_configs: [{{targets: ['127.0.0.1:{theirs}']}}]
remote_write:
- url: http://127.0.0.1:{ours}/api/v1/write
"""
        )
    log = open(f"{folder}/log", "w")
    start = lambda *argv: subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    children = [
        start(campanile, "serve", "--config", "campanile.yaml", "--data-dir", "ours", "--listen", f"127.0.0.1:{ours}"),
        start("prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter}"),
    ]
    passed = failed = 0
    try:
        wait("Campanile is ready", 20, lambda: urllib.request.urlopen(f"http://127.0.0.1:{ours}/-/ready", timeout=2))
        children.append(
            start("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=theirs",
                  f"--web.listen-address=127.0.0.1:{theirs}")
        )
        wait("samples arrive", 60, lambda: ask(ours, "count_over_time(node_load1[1m]) > 25", time.time()))
        at = float(ask(theirs, "min(timestamp(up))", time.time() - 4)[0]["value"][1]) + 0.9
        wait("the moment compared is in", 30, lambda: float(ask(ours, "min(timestamp(up))", time.time())[0]["value"][1]) > at + 1)
        for query in QUERIES:
            a, b = comparable(ask(theirs, query, at)), comparable(ask(ours, query, at))
            if same(a, b) and a:
                passed += 1
                print(f"ok    {query}")
            else:
                failed += 1
                print(f"FAIL  {query}\n  prometheus: {dict(list(a.items())[:5])}\n  campanile:  {dict(list(b.items())[:5])}")
    finally:
        # Prometheus first: it flushes to us while it stops.
        for child in reversed(children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if failed or not passed:
            print(open(f"{folder}/log").read()[-3000:])
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
