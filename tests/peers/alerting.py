"""Debian's amtool speaks to Campanile as to an Alertmanager, and Debian's Prometheus sends it alerts."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Hook(BaseHTTPRequestHandler):
    told = []

    def do_POST(self):
        Hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def wait(what, seconds, question):
    end = time.time() + seconds
    while time.time() < end:
        try:
            found = question()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def main(campanile):
    folder = tempfile.mkdtemp(prefix="alerting-")
    ours, theirs, hook = free_port(), free_port(), free_port()
    sink = ThreadingHTTPServer(("127.0.0.1", hook), Hook)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    files = {
        "campanile.yaml": "agent: {enabled: false}\nrules: []\nalertmanager: alertmanager.yml\n",
        "alertmanager.yml": f"""
route:
  receiver: all
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  routes: [{{matchers: [severity="page"], receiver: pager}}]
receivers:
- {{name: all, webhook_configs: [{{url: 'http://127.0.0.1:{hook}/all'}}]}}
- {{name: pager, webhook_configs: [{{url: 'http://127.0.0.1:{hook}/pager'}}]}}
""",
        "rules.yml": "groups: [{name: g, rules: [{alert: Up, expr: vector(1), labels: {severity: page}, annotations: {summary: it is up}}]}]\n",
        "prometheus.yml": f"""
global: {{evaluation_interval: 1s, external_labels: {{region: eu}}}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{ours}']}}]}}]}}
""",
    }
    for name, text in files.items():
        with open(f"{folder}/{name}", "w") as f:
            f.write(text)
    log = open(f"{folder}/log", "w")
    start = lambda *argv: subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{ours}"

    def amtool(*argv):
        run = subprocess.run(["amtool", *argv, f"--alertmanager.url={url}"], capture_output=True, text=True, cwd=folder)
        assert run.returncode == 0, f"amtool {argv}: {run.stdout}{run.stderr}"
        return run.stdout

    children = [start(campanile, "serve", "--config", "campanile.yaml", "--data-dir", "ours", "--listen", f"127.0.0.1:{ours}")]
    passed = 0

    def ok(what, holds):
        nonlocal passed
        assert holds, what
        passed += 1
        print(f"ok    {what}")

    try:
        wait("Campanile is ready", 20, lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=2))
        amtool("alert", "add", "alertname=Disk", "host=db-1", "severity=page", "--annotation=summary=full")
        amtool("alert", "add", "alertname=Disk", "host=db-2")
        ok("amtool alert add, query", "Disk" in amtool("alert", "query") and amtool("alert", "query", "host=db-1").count("Disk") == 1)
        ok("amtool alert query -o json", json.loads(amtool("alert", "query", "-o", "json", "host=db-2"))[0]["receivers"] == [{"name": "all"}])
        ok("both were told", wait("two pages", 10, lambda: {h["receiver"] for h in Hook.told} == {"all", "pager"}))
        silence = amtool("silence", "add", "alertname=Disk", "host=~db-.*", "--comment=work", "--author=me", "--duration=1h").strip()
        ok("amtool silence add, query", silence in amtool("silence", "query") and "work" in amtool("silence", "query", "host=~db-.*"))
        ok("silenced alerts are not listed", "Disk" not in amtool("alert", "query") and "Disk" in amtool("alert", "query", "--silenced"))
        amtool("silence", "update", "--duration=2h", "--comment=longer", silence)
        amtool("silence", "expire", silence)
        ok("amtool silence update, expire", silence not in amtool("silence", "query") and silence in amtool("silence", "query", "--expired"))
        ok("amtool config show", "pager" in amtool("config", "show"))
        ok("amtool config routes", "severity" in amtool("config", "routes"))
        ok("amtool config routes show", "pager" in amtool("config", "routes", "show"))
        ok("amtool alert query by receiver and state", amtool("alert", "query", "--receiver=pager").count("Disk") == 1 and "Disk" in amtool("alert", "query", "--active")
           and "Disk" not in amtool("alert", "query", "--inhibited"))
        ok("amtool alert query --unprocessed", amtool("alert", "query", "--unprocessed") is not None)
        imported = json.dumps([{"matchers": [{"name": "alertname", "value": f"Other{n}", "isRegex": False, "isEqual": n == 0}, {"name": "job", "value": "x", "isRegex": False,
                                "isEqual": True}], "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "bulk"} for n in range(2)])
        with open(f"{folder}/silences.json", "w") as f:
            f.write(imported)
        amtool("silence", "import", "silences.json")
        ids = amtool("silence", "query", "-q", "job=x").split()
        ok("amtool silence import, query -q", len(ids) == 2)
        ok("amtool silence query -o json, extended", len(json.loads(amtool("silence", "query", "-o", "json", "job=x"))) == 2
           and "bulk" in amtool("silence", "query", "-o", "extended", "job=x"))
        ok("amtool silence query --within", amtool("silence", "query", "--within=1h", "job=x").count("bulk") == 0)
        amtool("silence", "expire", *ids)
        ok("amtool silence expire of several", amtool("silence", "query", "-q", "job=x").strip() == "")
        ok("amtool check-config of the same file", "SUCCESS" in subprocess.run(["amtool", "check-config", "alertmanager.yml"], capture_output=True, text=True, cwd=folder).stdout)
        ok("amtool config routes test --verify.receivers", amtool("config", "routes", "test", "--verify.receivers=all", "severity=info").strip() == "all")
        ok("amtool config routes test", amtool("config", "routes", "test", "severity=page").strip() == "pager")
        ok("amtool cluster show", amtool("cluster", "show") is not None)
        children.append(start("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=theirs", "--rules.alert.resend-delay=2s",
                              f"--web.listen-address=127.0.0.1:{theirs}"))
        page = wait("a page for Prometheus's alert", 30, lambda: [h for h in Hook.told if h["groupLabels"].get("alertname") == "Up"])
        alert = page[0]["alerts"][0]
        ok("Prometheus's alert is paged", alert["labels"] == {"alertname": "Up", "region": "eu", "severity": "page"} and page[0]["receiver"] == "pager")
        ok("its link leads back", "graph" in alert["generatorURL"])
    except AssertionError as error:
        log.flush()
        print(f"FAIL  {error}\n{open(f'{folder}/log').read()[-3000:]}")
        passed = 0
    finally:
        for child in reversed(children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        sink.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
