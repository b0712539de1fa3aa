"""Real senders push through every door, and what they sent is asked for afterwards.

PyPI: prometheus-client (Pushgateway), opentelemetry-sdk with its OTLP/HTTP exporter, statsd. npm: prom-client (Pushgateway).
Senders that are not to be had are the files of tests/golden/senders: requests as their documentation writes them.
Usage: doors.py CAMPANILE NODE_PATH
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "senders")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, campanile):
        self.folder = tempfile.mkdtemp(prefix="doors-")
        self.port, self.statsd, self.graphite = free_port(), free_port(), free_port()
        self.campanile = campanile
        with open(f"{self.folder}/campanile.yaml", "w") as f:
            f.write(
                f"""
agent: {{enabled: false}}
ingest:
  statsd: {{listen: '127.0.0.1:{self.statsd}', flush_interval: 1s}}
  graphite: {{listen: '127.0.0.1:{self.graphite}'}}
  pushgateway: {{interval: 1s}}
"""
            )
        self.start()

    def start(self):
        self.log = open(f"{self.folder}/log", "a")
        self.child = subprocess.Popen(
            [self.campanile, "serve", "--config", "campanile.yaml", "--data-dir", "data", "--listen", f"127.0.0.1:{self.port}"],
            cwd=self.folder, stdout=self.log, stderr=self.log,
        )
        wait("Campanile is ready", 30, lambda: self.get("/-/ready"))

    def kill(self):
        self.child.kill()
        self.child.wait()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read()

    def value(self, query):
        answer = json.loads(self.get("/api/v1/query?" + urllib.parse.urlencode({"query": query})))
        result = answer["data"]["result"]
        return float(result[0]["value"][1]) if len(result) == 1 and "value" in result[0] else result

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def wait(what, seconds, question):
    end, last = time.time() + seconds, None
    while time.time() < end:
        try:
            last = question()
            if last:
                return
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}; the last answer was {last!r}")


def expect(server, query, value):
    wait(f"{query} is {value}", 10, lambda: server.value(query) == value or print_once(query, server.value(query)))


SAID = {}


def print_once(query, value):
    SAID[query] = value
    return False


def prometheus_client(server):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, delete_from_gateway, push_to_gateway, pushadd_to_gateway

    gateway = f"127.0.0.1:{server.port}"
    registry = CollectorRegistry()
    Gauge("py_last_success", "When.", registry=registry).set(42)
    Counter("py_rows", "Rows.", ["table"], registry=registry).labels("a/b").inc(3)
    Histogram("py_seconds", "Time.", registry=registry, buckets=[1, 2]).observe(1.5)
    push_to_gateway(gateway, job="nightly", grouping_key={"path": "/var/tmp", "empty": ""}, registry=registry)
    expect(server, 'py_last_success{job="nightly",path="/var/tmp"}', 42)
    expect(server, 'py_rows_total{table="a/b"}', 3)
    expect(server, 'py_seconds_bucket{le="2.0"}', 1)
    more = CollectorRegistry()
    Gauge("py_more", "More.", registry=more).set(1)
    pushadd_to_gateway(gateway, job="nightly", grouping_key={"path": "/var/tmp", "empty": ""}, registry=more)
    expect(server, "py_more + on (path) py_last_success", 43)
    expect(server, 'push_failure_time_seconds{job="nightly"}', 0)
    server.kill()
    server.start()
    wait("a group is sampled after kill -9", 10, lambda: server.value("count_over_time(py_more[3s])") not in ([], 0.0))
    groups = json.loads(server.get("/api/v1/metrics"))["data"]
    assert groups[0]["labels"] == {"empty": "", "job": "nightly", "path": "/var/tmp"}, groups[0]["labels"]
    delete_from_gateway(gateway, job="nightly", grouping_key={"path": "/var/tmp", "empty": ""})
    expect(server, "py_more", [])


def prom_client(server, node_path):
    script = """
const client = require('prom-client');
const registry = new client.Registry();
new client.Gauge({name: 'js_up', help: 'Up.', registers: [registry]}).set(7);
new client.Histogram({name: 'js_seconds', help: 'Time.', buckets: [0.1, 1], registers: [registry]}).observe(0.5);
const gateway = new client.Pushgateway(process.argv[1], {}, registry);
gateway.pushAdd({jobName: 'js', groupings: {host: 'web-1'}}).then(() => gateway.push({jobName: 'js2'})).catch(e => { console.error(e); process.exit(1); });
"""
    env = dict(os.environ, NODE_PATH=node_path)
    subprocess.run(["node", "-e", script, f"http://127.0.0.1:{server.port}"], check=True, env=env, timeout=60)
    expect(server, 'js_up{job="js",host="web-1"}', 7)
    expect(server, 'js_seconds_bucket{job="js2",le="1"}', 1)


def opentelemetry(server):
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource

    delta = {kind: AggregationTemporality.DELTA for kind in (Counter, Histogram)}
    for name, path, temporality in [("cumulative", "/v1/metrics", {}), ("delta", "/api/v1/otlp/v1/metrics", delta)]:
        exporter = OTLPMetricExporter(
            f"http://127.0.0.1:{server.port}{path}", compression=Compression.Gzip, preferred_temporality=temporality
        )
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        resource = Resource.create({"service.name": name, "service.namespace": "py", "service.instance.id": "1", "host.name": "h"})
        views = [
            View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation()),
            View(instrument_name="took", aggregation=ExplicitBucketHistogramAggregation([1, 2])),
        ]
        provider = MeterProvider([reader], resource, views=views)
        meter = provider.get_meter("test")
        requests = meter.create_counter("http.requests", unit="1")
        took = meter.create_histogram("took", unit="s")
        size = meter.create_histogram("size", unit="By")
        queue = meter.create_up_down_counter("queue.length")
        for _ in range(2):
            requests.add(3, {"http.method": "GET"})
            took.record(1.5)
            size.record(100)
            queue.add(2)
            assert provider.force_flush(), "the exporter says that the export failed"
            time.sleep(0.05)
        provider.shutdown()
        job = f'job="py/{name}",instance="1"'
        expect(server, f'http_requests_total{{{job},http_method="GET"}}', 6)
        expect(server, f'took_seconds_bucket{{{job},le="2"}}', 2)
        expect(server, f"took_seconds_sum{{{job}}}", 3)
        expect(server, f"histogram_count(size_bytes{{{job}}})", 2)
        expect(server, f"queue_length{{{job}}}", 4)
        expect(server, f'http_requests_total{{{job}}} * on (job, instance) group_left (host_name) target_info{{host_name="h"}}', 6)


def statsd(server):
    import statsd as client

    for make in (client.StatsClient, client.TCPStatsClient):
        c = make("127.0.0.1", server.statsd, prefix=make.__name__)
        c.incr("hits", 2)
        c.gauge("temp", 20)
        c.gauge("temp", -5, delta=True)
        c.timing("took", 250)
        c.set("users", "a")
        c.close()
        expect(server, f"{make.__name__}_hits", 2)
        expect(server, f"{make.__name__}_temp", 15)
        expect(server, f"histogram_sum({make.__name__}_took)", 0.25)


def graphite(server):
    with socket.create_connection(("127.0.0.1", server.graphite)) as s:
        s.sendall(b"servers.web-1.load 0.5 -1\ndisk.used;dc=eu 42 %d\n" % time.time())
    expect(server, "servers_web_1_load", 0.5)
    expect(server, 'disk_used{dc="eu"}', 42)


def golden(server):
    """Requests from the senders' documentation: each file is a list of calls and what is true afterwards."""
    for name in sorted(os.listdir(GOLDEN)):
        with open(os.path.join(GOLDEN, name)) as f:
            for call in json.load(f):
                if "query" in call:
                    expect(server, call["query"], call["value"])
                    continue
                now = int(time.time())
                text = call.get("body", "").replace("$NOW_NS", f"{now}000000000").replace("$NOW_MS", f"{now}000").replace("$NOW", str(now))
                body = text.encode()
                encoding = call.get("headers", {}).get("Content-Encoding")
                if encoding == "gzip":
                    import gzip

                    body = gzip.compress(body)
                elif encoding == "deflate":
                    import zlib

                    body = zlib.compress(body)
                request = urllib.request.Request(
                    f"http://127.0.0.1:{server.port}{call['path']}", data=body if call["method"] != "GET" else None,
                    method=call["method"], headers=call.get("headers", {}),
                )
                try:
                    with urllib.request.urlopen(request, timeout=10) as answer:
                        status, headers, said = answer.status, answer.headers, answer.read().decode()
                except urllib.error.HTTPError as error:
                    status, headers, said = error.code, error.headers, error.read().decode()
                what = f"{name}: {call['method']} {call['path']}: {status} {said}"
                assert status == call["status"], what
                assert call.get("says", "") in said, what
                for header, value in call.get("answer_headers", {}).items():
                    assert headers.get(header) == value, f"{what}: {header} is {headers.get(header)}"


def main(campanile, node_path):
    server = Server(campanile)
    passed, failed = 0, 0
    try:
        for run in (
            lambda: prometheus_client(server), lambda: prom_client(server, node_path), lambda: opentelemetry(server),
            lambda: statsd(server), lambda: graphite(server), lambda: golden(server),
        ):
            name = run.__code__.co_names[0]
            try:
                run()
                passed += 1
                print(f"ok    {name}")
            except Exception as error:
                failed += 1
                print(f"FAIL  {name}: {error!r} {SAID}")
            SAID.clear()
        sources = json.loads(server.get("/api/v1/sources"))["data"]["sources"]
        protocols = {source["protocol"] for source in sources}
        print("      sources:", ", ".join(sorted(protocols)))
        if not {"pushgateway", "otlp", "statsd", "graphite", "influx", "datadog"} <= protocols:
            failed += 1
            print(f"FAIL  some doors are not accounted for: {sorted(protocols)}")
    finally:
        server.stop()
        if failed or not passed:
            print(open(f"{server.folder}/log").read()[-3000:])
        shutil.rmtree(server.folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), sys.argv[2]))
