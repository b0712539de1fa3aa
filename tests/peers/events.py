"""Clicks from outside: real senders in, answers against an oracle of our own, raw files read by DuckDB.

Usage: events.py CAMPANILE        (PyPI: duckdb)
"""

import csv
import gzip
import http.server
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import duckdb

from doors import free_port

HOUR = 3_600_000
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
CONFIG = """
agent: {{enabled: false}}
events:
  sites: [{{name: shop, origins: ['https://shop.example']}}]
  ads: {{a0: {{campaign_id: c0, to: 'https://shop.example/x'}}}}
  mirror: {{url: 'http://127.0.0.1:{mirror}/in', secret_file: secret}}
  bots: {{agents: [{agents}]}}
"""


class Server:
    def __init__(self, campanile, folder, mirror):
        self.campanile, self.folder, self.mirror = campanile, folder, mirror
        self.port = free_port()
        self.child = None

    def start(self, agents=""):
        path = f"{self.folder}/campanile.yaml"
        open(path, "w").write(CONFIG.format(mirror=self.mirror, agents=agents))
        log = open(f"{self.folder}/log", "a")
        argv = [self.campanile, "serve", "--config", path, "--data-dir", f"{self.folder}/data", "--listen", f"127.0.0.1:{self.port}"]
        self.child = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.time() + 60
        while time.time() < deadline:
            try:
                self.get("/-/ready")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.child.poll() is None, open(f"{self.folder}/log").read()[-2000:]
                time.sleep(0.1)
        raise SystemExit("the server does not get ready")

    def stop(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        self.child.wait(60)

    def send(self, path, body=None, headers=None, method=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers or {}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, path, **query):
        query = "?" + urllib.parse.urlencode(query) if query else ""
        return self.send(path + query).decode()

    def data(self, path, **query):
        return json.loads(self.get(path, **query))["data"]

    def post(self, path, body):
        return json.loads(self.send(path, json.dumps(body).encode(), {"content-type": "application/json"}))["data"]

    def collect(self, events, form, key=None):
        headers = {"idempotency-key": key} if key else {}
        if form == "json":
            body = json.dumps({"events": events}).encode()
            headers["content-type"] = "application/json"
        else:
            body = gzip.compress("\n".join(json.dumps(event) for event in events).encode())
            headers |= {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
        return json.loads(self.send("/collect", body, headers))


class Mirror:
    """Takes what is repeated; refuses every third request, as a system in trouble does."""

    def __init__(self):
        self.seen, self.requests = [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.requests += 1
                fails = outer.requests % 3 == 0
                if not fails:
                    assert self.headers["x-campanile-signature"].startswith("t=")
                    outer.seen += [event["event_id"] for event in json.loads(body)["events"]]
                self.send_response(503 if fails else 204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def expect(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"FAIL {what}: {found!r}, expected {wanted!r}")
    print(f"ok   {what}: {found!r}"[:150])


def generated(begin, count, seed):
    rng = random.Random(seed)
    events = []
    for n in range(count):
        kind = rng.choice(["click", "click", "click", "impression", "conversion"])
        agent = rng.choice([CHROME, CHROME, "Googlebot/2.1 (+http://www.google.com/bot.html)", "ShadyBot/1.0"])
        events.append(
            {
                "event_id": f"e{seed}-{n}",
                "type": kind,
                "ts": begin + rng.randrange(2 * HOUR),
                "ad_id": f"a{min(int(rng.expovariate(0.3)), 30)}",
                "country": rng.choice(["DE", "FR", "US"]),
                "user_id": f"user{rng.randrange(50)}",
                "ip": f"203.0.113.{rng.randrange(100)}",
                "ua": agent,
                "price": rng.randrange(100) / 100,
            }
        )
    return events


def net(event, shady=False):
    return "Googlebot" not in event["ua"] and not (shady and "ShadyBot" in event["ua"])


def clicks(events, shady=False, **fields):
    fits = lambda event: event["type"] == "click" and net(event, shady) and all(event[k] == v for k, v in fields.items())
    return sum(1 for event in events if fits(event))


def sql(server, statement):
    os.chdir(f"{server.folder}/data/events")
    return duckdb.sql(statement).fetchall()[0][0]


def check_counts(server, events, begin, shady):
    window = {"from": begin, "to": begin + 2 * HOUR}
    expect("net clicks", server.data("/api/v1/ads/*/aggregated_count", **window)["count"], clicks(events, shady))
    for ad in ("a0", "a3"):
        answer = server.data(f"/api/v1/ads/{ad}/aggregated_count", **window)
        expect(f"net clicks of {ad}", answer["count"], clicks(events, shady, ad_id=ad))
    top = server.data("/api/v1/ads/popular_ads", count=5, **window)["ads"]
    oracle = sorted(((clicks(events, shady, ad_id=ad), ad) for ad in {e["ad_id"] for e in events}), key=lambda x: (-x[0], x[1]))[:5]
    expect("the five most clicked", [(ad["count"], ad["ad_id"]) for ad in top], oracle)
    for fields in ({}, {"ad_id": "a1"}, {"country": "DE"}, {"user_id": "user7"}, {"ip": "203.0.113.9"}):
        proof = server.data("/api/v1/prove", metric="clicks", **window, **fields)
        expect(f"proof of clicks {fields}", (proof["count"], sql(server, proof["sql"])), (clicks(events, shady, **fields),) * 2)
    proof = server.data("/api/v1/prove", metric="spend", **window)
    spend = round(sum(e["price"] for e in events if e["type"] in ("click", "impression") and net(e, shady)) * 1e6)
    expect("proof of spend", (proof["count"], sql(server, proof["sql"])), (spend, spend))
    done = server.post("/api/v1/reconcile", window)
    expect("reconciliation", (done["agrees"], done["events"], done["difference"]), (True, len(events), 0))


def check_reports(server, events, begin):
    window = {"from": begin, "to": begin + 2 * HOUR, "by": "ad_id"}
    rows = {row["ad_id"]: row for row in server.data("/api/v1/report.json", **window)["rows"]}
    expect("report: net clicks of a1", rows["a1"]["net_clicks"], clicks(events, ad_id="a1"))
    table = {row["ad_id"]: row for row in csv.DictReader(io.StringIO(server.get("/api/v1/report.csv", **window)))}
    expect("report: CSV has JSON's rows", sorted(table), sorted(rows))
    same = all(float(table[ad]["spend"]) == rows[ad]["spend"] for ad in rows)
    expect("report: CSV has JSON's spend", same, True)
    path = f"{server.folder}/report.parquet"
    open(path, "wb").write(server.send("/api/v1/report.parquet?" + urllib.parse.urlencode(window)))
    found = duckdb.sql(f"SELECT ad_id, net_clicks FROM read_parquet('{path}')").fetchall()
    expect("report: Parquet has JSON's clicks", dict(found) == {ad: row["net_clicks"] for ad, row in rows.items()}, True)


def check_doors(server):
    before = server.data("/api/v1/events/status")["accepted"]
    picture = server.send("/px.gif?site=shop&type=impression&ad_id=px")
    expect("the picture is one", picture[:6], b"GIF89a")

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    try:
        urllib.request.build_opener(Stay).open(f"http://127.0.0.1:{server.port}/c/a0")
        raise SystemExit("FAIL no redirect")
    except urllib.error.HTTPError as error:
        expect("a click leads on", (error.code, error.headers["location"]), (302, "https://shop.example/x"))
    page = json.dumps({"events": [{"type": "pageview", "event_id": "p1", "ts": int(time.time() * 1000), "url": "https://shop.example/a"}]})
    answer = server.send("/collect", page.encode(), {"origin": "https://shop.example", "content-type": "text/plain"})
    expect("a page sends without a token", json.loads(answer)["accepted"], 1)
    try:
        server.send("/collect", page.encode(), {"origin": "https://evil.example", "content-type": "text/plain"})
        raise SystemExit("FAIL another site's page was believed")
    except urllib.error.HTTPError as error:
        expect("another site's page is refused", error.code, 403)
    expect("three doors, three events", server.data("/api/v1/events/status")["accepted"] - before, 3)


def check_disk(server):
    """Nothing of a person lies on the disk: log, raw files and quarantine included."""
    for where, _, names in os.walk(f"{server.folder}/data/events"):
        for name in names:
            held = open(os.path.join(where, name), "rb").read()
            for secret in (b"203.0.113.77", b"user49", b"ann@example.org"):
                if secret in held:
                    raise SystemExit(f"FAIL {secret} lies in {where}/{name}")
    columns = duckdb.sql(f"SELECT count(*), count(ip), count(user_id), min(ip_prefix) FROM read_parquet('{server.folder}/data/events/raw/*/*/*.parquet', hive_partitioning=false)")
    rows, ips, users, prefix = columns.fetchall()[0]
    expect("raw files hold networks, no addresses and names", (rows > 0, ips, users, prefix), (True, 0, 0, "203.0.113.0/24"))


def main(campanile):
    folder = tempfile.mkdtemp(prefix="events-")
    open(f"{folder}/secret", "w").write("0123456789abcdef0123\n")
    mirror = Mirror()
    server = Server(os.path.abspath(campanile), folder, mirror.port)
    now = int(time.time() * 1000)
    begin = (now // HOUR - 4) * HOUR
    events = generated(begin, 3000, 1)
    try:
        server.start()
        accepted = duplicate = 0
        for at in range(0, len(events), 250):
            batch = events[at : at + 250] + events[max(0, at - 20) : at]
            answer = server.collect(batch, random.Random(at).choice(["json", "lines"]))
            accepted, duplicate = accepted + answer["accepted"], duplicate + answer["duplicate"]
        expect("each event is counted once", accepted, len(events))
        expect("copies are known as copies", duplicate, 20 * 11)
        bad = server.collect([{"type": "click", "ad_id": "a", "event_id": "x", "user_id": "ann@example.org"}], "json")
        expect("a refused event is named", bad["errors"], [{"index": 0, "field": "ts", "reason": "is missing"}])
        kept = server.data("/api/v1/events/quarantine", limit=10)["events"]
        expect("and kept without the person", kept[0]["event"], {"type": "click", "ad_id": "a", "event_id": "x"})
        named = [{"type": "click", "ad_id": "k", "ts": begin + 5 * HOUR // 2}]
        first, again = (server.collect(named, "json", key="order-1") for _ in range(2))
        expect("a named request gets its first answer again", (first["accepted"], again), (1, first))
        check_counts(server, events, begin, False)
        check_reports(server, events, begin)
        check_disk(server)
        server.stop(signal.SIGKILL)

        server.start("'^ShadyBot'")
        window = {"from": begin, "to": begin + 2 * HOUR}
        shown = server.post("/api/v1/recalc", window)
        expect("a recalculation shows what would change", shown["changed"], sum(1 for e in events if "ShadyBot" in e["ua"]))
        expect("and changes nothing", server.data("/api/v1/ads/*/aggregated_count", **window)["count"], clicks(events))
        applied = server.post("/api/v1/recalc", {**window, "apply": True})
        expect("applied", applied["applied"], True)
        check_counts(server, events, begin, True)
        server.stop(signal.SIGKILL)
        server.start("'^ShadyBot'")
        check_counts(server, events, begin, True)
        back = server.post("/api/v1/recalc", {"rollback": applied["id"]})
        expect("taken back", (back["applied"], back["changed"]), (True, shown["changed"]))
        check_counts(server, events, begin, False)

        mine = sum(1 for event in events if event["user_id"] == "user7")
        exported = server.send("/api/v1/privacy/export", b'{"user_id": "user7"}', {"content-type": "application/json"})
        expect("a person's events", len(exported.splitlines()), mine)
        receipt = server.post("/api/v1/privacy/erase", {"user_id": "user7"})
        expect("are forgotten", (receipt["rows"], receipt["finished"] is not None), (mine, True))
        exported = server.send("/api/v1/privacy/export", b'{"user_id": "user7"}', {"content-type": "application/json"})
        expect("nothing is left of them", exported, b"")
        done = server.post("/api/v1/reconcile", window)
        expect("and every count still holds", (done["agrees"], done["events"]), (True, len(events)))

        check_doors(server)
        deadline = time.time() + 60
        wanted = {event["event_id"] for event in events}
        while not wanted <= set(mirror.seen) and time.time() < deadline:
            time.sleep(0.5)
        expect("the mirror has every event, though it failed often", wanted <= set(mirror.seen), True)
        size = sum(os.path.getsize(os.path.join(w, n)) for w, _, ns in os.walk(f"{folder}/data/events/raw") for n in ns)
        print(f"     raw files: {size / len(events):.1f} bytes an event (small files)")
        server.stop()
        print("all well")
    finally:
        if server.child.poll() is None:
            server.child.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
