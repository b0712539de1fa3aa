"""The same requests to Debian's Alertmanager and to Campanile: the answers must agree in status, shape and content.

What differs by nature (ids, times, versions) is left out; where we answer otherwise on purpose stands in LATER.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

CONFIG = """
route:
  receiver: all
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  routes:
  - {matchers: [severity="page"], receiver: pager, continue: true}
  - {matchers: [team=~"a|b"], receiver: team}
inhibit_rules:
- {source_matchers: [alertname="Site"], target_matchers: [alertname="Host"], equal: [site]}
receivers: [{name: all}, {name: pager}, {name: team}]
"""
FAR = "2099-01-01T00:00:00.000Z"
ALERTS = [
    {"labels": {"alertname": "Site", "site": "x", "severity": "page"}, "annotations": {"summary": "down"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": FAR,
     "generatorURL": "http://prometheus/graph?g0.expr=up"},
    {"labels": {"alertname": "Host", "site": "x", "host": "1", "team": "a"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": FAR},
    {"labels": {"alertname": "Host", "site": "y", "host": "2", "team": "b"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": FAR},
    {"labels": {"alertname": "Quiet", "host": "3"}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": FAR},
    {"labels": {"alertname": "Plain", "umlaut": "größe \\ \"q\""}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": FAR},
]
SILENCE = {"matchers": [{"name": "alertname", "value": "Quiet", "isRegex": False, "isEqual": True}], "startsAt": "2026-01-01T00:00:00.000Z",
           "endsAt": FAR, "createdBy": "me", "comment": "work"}
GETS = [
    "receivers", "alerts", "alerts?active=false", "alerts?silenced=false", "alerts?inhibited=false", "alerts?unprocessed=false",
    "alerts?active=false&silenced=true&inhibited=false", 'alerts?filter=alertname="Host"', 'alerts?filter=host=~"1|2"&filter=site!="x"',
    'alerts?filter=host!~".+"', "alerts?receiver=pager", "alerts?receiver=pag", "alerts?receiver=pager|team", 'alerts?filter=alertname%3DHost',
    "alerts/groups", "alerts/groups?active=false", "alerts/groups?silenced=false", "alerts/groups?inhibited=false", "alerts/groups?receiver=team",
    'alerts/groups?filter=site="x"', "silences", 'silences?filter=alertname="Quiet"', 'silences?filter=alertname="Other"',
]
# Method, path, body; the status alone is compared.
ODD = [
    ("GET", 'alerts?filter={', None), ("GET", "alerts?receiver=(", None), ("GET", "alerts?active=perhaps", None), ("GET", "silence/nonsense", None),
    ("GET", "silence/00000000-0000-0000-0000-000000000000", None), ("DELETE", "silence/00000000-0000-0000-0000-000000000000", None),
    ("GET", "silences?filter={", None), ("POST", "alerts", [{"labels": {}}]), ("POST", "alerts", [{"annotations": {"a": "b"}}]), ("POST", "alerts", {"a": 1}),
    ("POST", "alerts", [{"labels": {"alertname": "Back"}, "startsAt": "2026-01-02T00:00:00Z", "endsAt": "2026-01-01T00:00:00Z"}]),
    ("POST", "alerts", []), ("POST", "silences", {}), ("POST", "silences", dict(SILENCE, matchers=[])), ("POST", "silences", dict(SILENCE, endsAt="2020-01-01T00:00:00Z")),
    ("POST", "silences", dict(SILENCE, matchers=[{"name": "a", "value": "(", "isRegex": True, "isEqual": True}])),
    ("POST", "silences", dict(SILENCE, matchers=[{"name": "a", "value": ".*", "isRegex": True, "isEqual": True}])),
    ("POST", "silences", dict(SILENCE, id="00000000-0000-0000-0000-000000000000")), ("POST", "silences", {k: v for k, v in SILENCE.items() if k != "comment"}),
    ("PUT", "alerts", []), ("GET", "nowhere", None),
]
# Requests that are answered otherwise on purpose, and why.
LATER = {
    ("DELETE", "silence/00000000-0000-0000-0000-000000000000", ""): "0.25 says 500 for a silence that it does not know",
    ("GET", "alerts?active=perhaps", ""): "what is neither yes nor no is refused here; there it counts as no",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(base, method, path, body=None):
    path = urllib.parse.quote(path, safe="/?&=%~|!")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/api/v2/{path}", data=data, method=method, headers={"Content-Type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, None


def plain(value, key=""):
    """Leaves out what differs by nature: ids and times that the server chose."""
    if isinstance(value, dict):
        # Since 0.27: the mute times of a group.
        return {k: plain(v, k) for k, v in value.items() if k not in ("mutedBy", "annotations") or v}
    if isinstance(value, list):
        if key == "silencedBy":
            return ["an id"] * len(value)
        return sorted((plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    if key in ("id", "updatedAt", "fingerprint_") or (key == "startsAt" and isinstance(value, str) and not value.startswith("2026-01-01")):
        assert re.match(r"[0-9a-fT:.Z-]+$", value), value
        return f"some {key}"
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT.*Z$", value):
        return value.replace(".000Z", "Z")
    return value


def main(campanile):
    folder = tempfile.mkdtemp(prefix="alertmanager-")
    ours, theirs, failed, passed = free_port(), free_port(), [], 0
    for name, text in (("alertmanager.yml", CONFIG), ("campanile.yaml", "agent: {enabled: false}\nrules: []\nalertmanager: alertmanager.yml\n")):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text)
    log = open(f"{folder}/log", "w")
    start = lambda *argv: subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    children = [
        start(campanile, "serve", "--config", "campanile.yaml", "--data-dir", "ours", "--listen", f"127.0.0.1:{ours}"),
        start("prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=theirs", f"--web.listen-address=127.0.0.1:{theirs}",
              "--cluster.listen-address="),
    ]
    bases = [f"http://127.0.0.1:{port}" for port in (ours, theirs)]
    try:
        for base in bases:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{base}/-/ready", timeout=2)
                    break
                except OSError:
                    time.sleep(0.1)
            assert ask(base, "POST", "alerts", ALERTS)[0] == 200
            status, made = ask(base, "POST", "silences", SILENCE)
            assert status == 200 and list(made) == ["silenceID"], made
        time.sleep(3)
        for path in GETS:
            (mine, my_answer), (other, their_answer) = [ask(base, "GET", path) for base in bases]
            if (mine, plain(my_answer)) == (other, plain(their_answer)):
                passed += 1
            else:
                failed.append(f"GET {path}\n  ours   {mine} {json.dumps(plain(my_answer))[:600]}\n  theirs {other} {json.dumps(plain(their_answer))[:600]}")
        for method, path, body in ODD:
            (mine, my_answer), (other, their_answer) = [ask(base, method, path, body) for base in bases]
            later = any(m == method and p == path and mark in json.dumps(body) for m, p, mark in LATER)
            if mine == other or later:
                passed += 1
            else:
                failed.append(f"{method} {path} {json.dumps(body)}: ours {mine} {my_answer}, theirs {other} {their_answer}")
        shape = lambda value: {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value).__name__
        status = [ask(base, "GET", "status")[1] for base in bases]
        for part in ("config", "versionInfo"):
            if shape(status[0][part]) != shape(status[1][part]):
                failed.append(f"status.{part}: ours {shape(status[0][part])}, theirs {shape(status[1][part])}")
            else:
                passed += 1
        # A silence that is changed while it lasts keeps its id; one whose matchers change becomes another; expired, it stays to be seen.
        steps = []
        for base in bases:
            seen = []
            made = ask(base, "POST", "silences", dict(SILENCE, startsAt="2099-01-01T00:00:00Z", endsAt="2099-02-01T00:00:00Z"))[1]["silenceID"]
            seen.append(ask(base, "GET", f"silence/{made}")[1]["status"])
            longer = ask(base, "POST", "silences", dict(SILENCE, id=made, startsAt="2099-01-01T00:00:00Z", endsAt="2099-03-01T00:00:00Z"))[1]["silenceID"]
            seen.append(longer == made)
            other = ask(base, "POST", "silences", dict(SILENCE, id=made, matchers=[{"name": "b", "value": "c", "isRegex": False, "isEqual": False},
                                                                              {"name": "d", "value": "e", "isRegex": False, "isEqual": True}]))[1]["silenceID"]
            seen.append(other == made)
            seen.append(ask(base, "GET", f"silence/{made}")[1]["status"])
            seen.append(ask(base, "DELETE", f"silence/{other}")[0])
            seen.append(ask(base, "GET", f"silence/{other}")[1]["status"])
            seen.append(ask(base, "DELETE", f"silence/{other}")[0])
            steps.append(seen)
        if steps[0] == steps[1]:
            passed += 1
        else:
            failed.append(f"the life of a silence: ours {steps[0]}, theirs {steps[1]}")
    finally:
        for child in children:
            child.terminate()
            child.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(failed))
    print(f"{passed} answers agree, {len(failed)} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
