"""Measures rules and pages of a running binary: python3 benches/alerting.py CAMPANILE [scenario …] [--port N]

  million   10,000 alert rules over 1,000,000 series, every 15 s: each rule on a metric of its own, then 100 rules on each of 100 metrics
  second    2,000 alert rules, every second
  thousand  1,000 alerts at once: in 4 pages, then in a page each; time until the last has arrived, CPU and memory
  flush     what a flush takes with 100,000 alerts, 1,000 silences and 200 inhibition rules: 100 groups, then one
  hanging   a second alert beside an SMTP server and a web hook that accept and say nothing

Everything is on loopback. CPU and memory are the process's own, from /proc.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TICKS = os.sysconf("SC_CLK_TCK")


class Hook(BaseHTTPRequestHandler):
    """A web hook that notes what came, and when."""

    protocol_version = "HTTP/1.1"
    told = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Hook.told.append((time.time(), self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Hook1000(ThreadingHTTPServer):
    request_queue_size = 1000
    daemon_threads = True


class Server:
    """The binary with its own folder."""

    def __init__(self, binary, port, files):
        self.folder = tempfile.mkdtemp(prefix="bench-alerting-")
        self.url = f"http://127.0.0.1:{port}"
        for name, text in files.items():
            with open(os.path.join(self.folder, name), "w") as f:
                f.write(text)
        self.log = open(os.path.join(self.folder, "log"), "w")
        argv = [binary, "serve", "--config", "campanile.yaml", "--data-dir", "data", "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(argv, cwd=self.folder, stdout=self.log, stderr=self.log)
        self.wait(lambda: self.get("/-/ready"))

    def wait(self, question, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            try:
                found = question()
                if found:
                    return found
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit(f"nothing within {seconds} s; {open(self.log.name).read()[-2000:]}")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def push(self, text):
        request = urllib.request.Request(self.url + "/api/v1/import/prometheus", data=text.encode(), method="POST")
        urllib.request.urlopen(request, timeout=60).read()

    def post_alerts(self, alerts):
        data = json.dumps(alerts).encode()
        request = urllib.request.Request(self.url + "/api/v2/alerts", data=data, headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).read()

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, what="VmRSS"):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(rf"{what}:\s+(\d+)", f.read()).group(1)) / 1024

    def metric(self, name):
        return [float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").splitlines() if re.match(rf"{name}[ {{]", line)]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def campanile_yaml(extra=""):
    return "agent: {enabled: false}\nrules: [rules.yaml]\nalertmanager: alertmanager.yml\n" + extra


def million(binary, port):
    for shape in ("a metric each", "100 rules a metric"):
        own = shape == "a metric each"
        metrics, series = (10_000, 100) if own else (100, 10_000)
        groups = []
        for g in range(100):
            if own:
                rules = [f"  - {{alert: A{m}, expr: m{m} > 1000}}" for m in range(g * 100, g * 100 + 100)]
            else:
                rules = [f"  - {{alert: A{g}x{n}, expr: m{g} > {1000 + n}}}" for n in range(100)]
            groups.append(f"- name: g{g}\n  interval: 15s\n  rules:\n" + "\n".join(rules))
        files = {"campanile.yaml": campanile_yaml(), "rules.yaml": "groups:\n" + "\n".join(groups) + "\n",
                 "alertmanager.yml": "route: {receiver: none}\nreceivers: [{name: none}]\n"}
        server = Server(binary, port, files)
        try:
            began = time.time()
            lines = []
            for m in range(metrics):
                lines += [f'm{m}{{instance="i{s}",job="bench"}} {(m + s) % 1000}\n' for s in range(series)]
                if len(lines) >= 100_000:
                    server.push("".join(lines))
                    lines = []
            print(f"{shape}: 1,000,000 series pushed in {time.time() - began:.0f} s, {server.memory():.0f} MB")
            time.sleep(16)
            missed = sum(server.metric("prometheus_rule_group_iterations_missed_total"))
            count, cpu = sum(server.metric("prometheus_rule_evaluations_total")), server.cpu()
            time.sleep(45)
            evaluations = sum(server.metric("prometheus_rule_evaluations_total")) - count
            spent = server.cpu() - cpu
            missed = sum(server.metric("prometheus_rule_group_iterations_missed_total")) - missed
            longest = max(server.metric("prometheus_rule_group_last_duration_seconds"))
            failures = sum(server.metric("prometheus_rule_evaluation_failures_total"))
            print(f"{shape}: {evaluations:.0f} evaluations in 45 s, {missed:.0f} iterations missed, {failures:.0f} failed, "
                  f"longest group {longest:.3f} s, {spent / 3:.2f} CPU-s each 15 s, {server.memory():.0f} MB")
        finally:
            server.stop()


def second(binary, port):
    rules = "\n".join(f"  - {{alert: A{n}, expr: 'many{{n=\"{n}\"}} > 5'}}" for n in range(2000))
    files = {"campanile.yaml": campanile_yaml(), "rules.yaml": f"groups:\n- name: g\n  interval: 1s\n  rules:\n{rules}\n",
             "alertmanager.yml": "route: {receiver: none}\nreceivers: [{name: none}]\n"}
    server = Server(binary, port, files)
    try:
        server.push("".join(f'many{{n="{n}"}} 1\n' for n in range(2000)))
        time.sleep(3)
        cpu, count, began = server.cpu(), sum(server.metric("prometheus_rule_evaluations_total")), time.time()
        time.sleep(20)
        seconds = time.time() - began
        rate = (sum(server.metric("prometheus_rule_evaluations_total")) - count) / seconds
        print(f"2,000 rules each second: {rate:.0f} evaluations/s, {(server.cpu() - cpu) / seconds:.3f} of a core, {server.memory():.0f} MB")
    finally:
        server.stop()


def thousand(binary, port):
    for group_by, pages in (("[alertname, severity]", 4), ("['...']", 1000)):
        hook = Hook1000(("127.0.0.1", 0), Hook)
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        rules = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: Many\n    expr: burst > 5\n    labels: {severity: '{{ $labels.sev }}'}\n" \
                "    annotations: {summary: '{{ $labels.instance }} is at {{ $value }}'}\n"
        alertmanager = f"route: {{receiver: all, group_by: {group_by}, group_wait: 0s, group_interval: 5s}}\n" \
                       f"receivers: [{{name: all, webhook_configs: [{{url: 'http://127.0.0.1:{hook.server_port}/'}}]}}]\n"
        files = {"campanile.yaml": campanile_yaml(), "rules.yaml": rules, "alertmanager.yml": alertmanager}
        server = Server(binary, port, files)
        try:
            text = lambda value: "".join(f'burst{{instance="i{n}",sev="s{n % 4}"}} {value}\n' for n in range(1000))
            server.push(text(1))
            time.sleep(2)
            Hook.told.clear()
            cpu, began = server.cpu(), time.time()
            server.push(text(9))
            seen = lambda: len({a["fingerprint"] for _, _, body in list(Hook.told) for a in body["alerts"]}) == 1000
            server.wait(seen, 30)
            last = max(at for at, *_ in Hook.told) - began
            time.sleep(max(0, 5 - (time.time() - began)))
            print(f"1,000 alerts, group_by {group_by}: {len(Hook.told)} pages (expected {pages}), all after {last:.2f} s, "
                  f"{server.cpu() - cpu:.2f} CPU-s in 5 s, {server.memory():.0f} MB now, {server.memory('VmHWM'):.0f} MB at most")
        finally:
            server.stop()
            hook.shutdown()


def hanging(binary, port):
    hook = Hook1000(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(100)
    deaf = silent.getsockname()[1]
    kept = []
    threading.Thread(target=lambda: [kept.append(silent.accept()) for _ in range(100)], daemon=True).start()
    for what, config in (
        ("SMTP server", f"email_configs: [{{to: a@example.com, from: b@example.com, smarthost: '127.0.0.1:{deaf}', require_tls: false}}]"),
        ("web hook", f"webhook_configs: [{{url: 'http://127.0.0.1:{deaf}/'}}, {{url: 'http://127.0.0.1:{hook.server_port}/'}}]"),
    ):
        if "email" in config:
            config += f", webhook_configs: [{{url: 'http://127.0.0.1:{hook.server_port}/'}}]"
        files = {"campanile.yaml": campanile_yaml(), "rules.yaml": "groups: []\n",
                 "alertmanager.yml": "route: {receiver: all, group_by: [job], group_wait: 0s, group_interval: 1s}\n"
                                     f"receivers: [{{name: all, {config}}}]\n"}
        server = Server(binary, port, files)
        try:
            Hook.told.clear()
            server.post_alerts([{"labels": {"alertname": "First"}}])
            server.wait(lambda: Hook.told, 10)
            time.sleep(3)
            began = time.time()
            server.post_alerts([{"labels": {"alertname": "Second"}}])
            server.wait(lambda: any(a["labels"]["alertname"] == "Second" for _, _, body in list(Hook.told) for a in body["alerts"]), 30)
            print(f"a second alert beside a hanging {what}: {time.time() - began:.2f} s")
        finally:
            server.stop()
    hook.shutdown()


def flush(binary, port):
    rules = "\n".join(f"- {{source_matchers: [alertname=Source{n}], target_matchers: [severity=info, rack=r{n}], equal: [site]}}" for n in range(200))
    for group_by in ("[site]", "[alertname]"):
        alertmanager = f"route: {{receiver: none, group_by: {group_by}, group_wait: 1s, group_interval: 5s}}\n" \
                       f"receivers: [{{name: none, webhook_configs: [{{url: 'http://127.0.0.1:9/'}}]}}]\ninhibit_rules:\n{rules}\n"
        files = {"campanile.yaml": campanile_yaml("limits: {alerts: 200000}\n"), "rules.yaml": "groups: []\n", "alertmanager.yml": alertmanager}
        server = Server(binary, port, files)
        try:
            for n in range(1000):
                matchers = [{"name": "host", "value": f"h{n}", "isRegex": False, "isEqual": True}]
                if n % 10 == 0:
                    matchers = [{"name": "host", "value": f"h{n}|g{n}", "isRegex": True, "isEqual": True}]
                silence = {"matchers": matchers, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "b", "comment": "c"}
                request = urllib.request.Request(server.url + "/api/v2/silences", data=json.dumps(silence).encode(),
                                                 headers={"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=60).read()
            server.post_alerts([{"labels": {"alertname": f"Source{n}", "site": "s1"}, "endsAt": "2099-01-01T00:00:00Z"} for n in range(200)])
            for part in range(20):
                server.post_alerts([{"labels": {"alertname": "Many", "severity": "info", "rack": f"r{n % 400}", "site": f"s{n % 100}", "host": f"h{n}",
                                                "instance": f"i{n}:9100"}, "endsAt": "2099-01-01T00:00:00Z"} for n in range(part * 5000, part * 5000 + 5000)])
            time.sleep(12)
            values = lambda: [server.metric(f"campanile_alertmanager_flush_seconds_{what}")[0] for what in ("sum", "count")]
            (sum0, count0), cpu = values(), server.cpu()
            time.sleep(21)
            sum1, count1 = values()
            each = (sum1 - sum0) / max(1, count1 - count0)
            print(f"100,000 alerts, 1,000 silences, 200 inhibition rules, group_by {group_by}: {count1 - count0:.0f} flushes of {each * 1000:.1f} ms, "
                  f"{(server.cpu() - cpu) / 21:.3f} of a core, {server.memory():.0f} MB")
        finally:
            server.stop()


SCENARIOS = {"million": million, "second": second, "thousand": thousand, "hanging": hanging, "flush": flush}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campanile")
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--port", type=int, default=19490)
    options = parser.parse_args()
    for name in options.scenarios or SCENARIOS:
        SCENARIOS[name](os.path.abspath(options.campanile), options.port)


if __name__ == "__main__":
    sys.exit(main())
