"""Prometheus's own programs read from Campanile: a server by remote read and by /federate, and promtool.

The data are pushed, and what a reader gets is compared with what Campanile answers itself, and with what was pushed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from prometheus import ask, comparable, free_port, same, wait

QUERIES = [
    "reader_requests_total",
    "rate(reader_requests_total[1m])",
    "sum by (zone) (increase(reader_requests_total[3m]))",
    'reader_temperature_celsius{zone!="b"}',
    'max_over_time(reader_temperature_celsius{zone=~"a|b"}[2m])',
    "avg_over_time(sum(reader_temperature_celsius)[2m:17s])",
]


def exposition(now_ms):
    """Three zones, a counter and a gauge each, every five seconds for five minutes; not at round times."""
    lines = []
    for step in range(60):
        at = now_ms - (60 - step) * 5000
        for n, zone in enumerate("abc"):
            lines.append(f'reader_requests_total{{job="reader",zone="{zone}"}} {step * (n + 1) * 7} {at + 13 * n}')
            lines.append(f'reader_temperature_celsius{{job="reader",zone="{zone}"}} {20 + (step * (n + 3)) % 11 / 10} {at + 13 * n}')
    return ("\n".join(lines) + "\n").encode()


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, good, shown):
        if good:
            self.passed += 1
            print(f"ok    {what}")
        else:
            self.failed += 1
            print(f"FAIL  {what}\n  {shown}")


def promtool(checks, ours, now):
    url = f"http://127.0.0.1:{ours}"

    def run(what, expected, *argv):
        done = subprocess.run(["promtool", "query", *argv], capture_output=True, text=True, timeout=30)
        good = done.returncode == 0 and all(part in done.stdout for part in expected)
        checks.check(f"promtool query {what}", good, done.stdout + done.stderr)

    span = [f"--start={now - 300}", f"--end={now}"]
    run("instant", ['reader_requests_total{job="reader", zone="a"} => 413'], "instant", f"--time={now}", url, "reader_requests_total")
    run("range", ['{zone="b"} =>', "@["], "range", *span, "--step=30s", url, "sum by (zone) (reader_requests_total)")
    run("series", ['reader_requests_total', 'zone="c"'], "series", "--match=reader_requests_total", *span, url)
    run("labels", ["a\nb\nc"], "labels", *span, url, "zone")


def main(campanile):
    folder = tempfile.mkdtemp(prefix="readers-")
    ours, theirs = free_port(), free_port()
    with open(f"{folder}/campanile.yaml", "w") as f:
        f.write("agent: {enabled: false}\n")
    with open(f"{folder}/prometheus.yml", "w") as f:
        f.write(
            f"""
scrape_configs:
- job_name: federate
  scrape_interval: 1s
  honor_labels: true
  metrics_path: /federate
  params: {{'match[]': ['{{__name__=~"reader_.*"}}']}}
  metric_relabel_configs: [{{target_label: by, replacement: federation}}]
  static_configs: [{{targets: ['127.0.0.1:{ours}']}}]
remote_read:
- url: http://127.0.0.1:{ours}/api/v1/read
  read_recent: true
"""
        )
    log = open(f"{folder}/log", "w")
    start = lambda *argv: subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    children = [
        start(campanile, "serve", "--config", "campanile.yaml", "--data-dir", "ours", "--listen", f"127.0.0.1:{ours}")
    ]
    checks = Checks()
    try:
        wait("Campanile is ready", 20, lambda: urllib.request.urlopen(f"http://127.0.0.1:{ours}/-/ready", timeout=2))
        now_ms = int(time.time()) * 1000 + 321
        push = urllib.request.Request(f"http://127.0.0.1:{ours}/api/v1/import/prometheus", data=exposition(now_ms))
        urllib.request.urlopen(push, timeout=10).read()
        children.append(
            start("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=theirs",
                  f"--web.listen-address=127.0.0.1:{theirs}")
        )
        wait("Prometheus is ready", 30, lambda: urllib.request.urlopen(f"http://127.0.0.1:{theirs}/-/ready", timeout=2))
        at = now_ms / 1000
        for query in QUERIES:
            # Its own storage has the federated copies, which this leaves out.
            remote = query.replace("}", ',by=""}') if "{" in query else query
            for name in ("reader_requests_total", "reader_temperature_celsius"):
                remote = remote if "{" in query else remote.replace(name, name + '{by=""}')
            a, b = comparable(ask(theirs, remote, at)), comparable(ask(ours, query, at))
            checks.check(f"remote read: {query}", same(a, b) and a, f"prometheus: {a}\n  campanile:  {b}")
        federated = 'reader_temperature_celsius{by="federation"}'
        wait("federation brings samples", 30, lambda: len(ask(theirs, federated, time.time())) == 3)
        a = comparable(ask(theirs, f'label_replace({federated}, "by", "", "", "")', time.time()))
        b = comparable(ask(ours, "reader_temperature_celsius", time.time()))
        checks.check("federation: the newest samples", same(a, b), f"prometheus: {a}\n  campanile:  {b}")
        times = comparable(ask(theirs, f'label_replace(timestamp({federated}), "by", "", "", "")', time.time()))
        own = comparable(ask(ours, "timestamp(reader_temperature_celsius)", time.time()))
        checks.check("federation: their times", same(times, own), f"prometheus: {times}\n  campanile:  {own}")
        promtool(checks, ours, int(at))
    finally:
        for child in reversed(children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if checks.failed or not checks.passed:
            print(open(f"{folder}/log").read()[-3000:])
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
