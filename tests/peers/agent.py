"""The agent beside a real node_exporter: the same metrics with the same labels, nothing lost by kill -9 or a server that is down.

Usage: agent.py CAMPANILE
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from doors import free_port, wait

# What node_exporter shows on a plain machine and the agent does not: docs/ingest.md says why. A virtual device's speed is -1 Mbit/s
# to node_exporter 1.5; nothing is said about it here.
MISSING = re.compile(
    r"node_(timex|exporter|network_speed_bytes|network_receive_nohandler|netstat_UdpLite6|dmi|xfs|btrfs|bcache|edac|nfs|nfsd|mdadm|power_supply|nvme|rapl"
    r"|bonding|fibrechannel|infiniband|ipvs|tape|zfs|hwmon|cooling_device)"
)


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def query(port, text):
    return json.loads(get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": text})))["data"]["result"]


def value(port, text):
    result = query(port, text)
    return float(result[0]["value"][1]) if result else None


def shapes(port, job):
    """Metric names with the names of their labels, and values of labels that identify a device."""
    found = {}
    for element in query(port, f'{{job="{job}",__name__=~"node_.*"}}'):
        labels = {k: v for k, v in element["metric"].items() if k not in ("__name__", "job", "instance")}
        found.setdefault(element["metric"]["__name__"], set()).add(tuple(sorted(labels)))
    return found


def usage(pid):
    stat = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    rss = next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
    return (int(stat[11]) + int(stat[12])) / 100, int(rss.split()[1]) / 1024


def main(campanile):
    folder = tempfile.mkdtemp(prefix="agent-")
    port, exporter, statsd = free_port(), free_port(), free_port()
    os.mkdir(f"{folder}/text")
    open(f"{folder}/text/cron.prom", "w").write("# TYPE backup_done gauge\nbackup_done 1\n")
    open(f"{folder}/serve.yaml", "w").write("agent: {enabled: false}\n")
    open(f"{folder}/agent.yaml", "w").write(
        f"""
global: {{scrape_interval: 1s, external_labels: {{site: x}}}}
textfile_directory: text
ingest: {{statsd: {{listen: '127.0.0.1:{statsd}', flush_interval: 1s}}}}
scrape_configs:
- job_name: exporter
  static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]
- job_name: gone
  static_configs: [{{targets: ['127.0.0.1:1']}}]
remote_write:
- url: http://127.0.0.1:{port}/api/v1/write
"""
    )
    log = open(f"{folder}/log", "a")
    children = {}

    def start(name, *argv):
        children[name] = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)

    def serve():
        start("serve", campanile, "serve", "--config", "serve.yaml", "--data-dir", "data", "--listen", f"127.0.0.1:{port}")
        wait("the server is ready", 30, lambda: get(port, "/-/ready"))

    def agent():
        start("agent", campanile, "agent", "--config", "agent.yaml", "--data-dir", "queue")

    failed = 0
    try:
        start("exporter", "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter}")
        serve()
        agent()
        wait("both have sent", 30, lambda: query(port, 'up{job="exporter"} == 1') and query(port, 'node_load1{job="node"}'))
        theirs, ours = shapes(port, "exporter"), shapes(port, "node")
        missing = sorted(name for name in theirs if name not in ours and not MISSING.match(name))
        unlike = {name: (theirs[name], ours[name]) for name in theirs if name in ours and not theirs[name] <= ours[name]}
        print(f"      node_exporter shows {len(theirs)} names, the agent {len(ours)}; missing and unexplained: {missing}")
        for name, (a, b) in unlike.items():
            print(f"FAIL  labels of {name}: node_exporter {a}, agent {b}")
        failed += bool(missing) + bool(unlike)
        for text, expected in [
            ('up{job="gone"}', 0), ('backup_done{job="node",site="x"}', 1), ('scrape_samples_scraped{job="gone"}', 0),
        ]:
            wait(f"{text} is {expected}", 10, lambda: value(port, text) == expected)
        import socket

        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hits:3|c", ("127.0.0.1", statsd))
        wait("StatsD's lines are forwarded", 10, lambda: value(port, 'hits{site="x"}') == 3)
        # The server is down for a while, and the agent is killed meanwhile: what was queued comes all the same.
        children["serve"].terminate()
        children["serve"].wait(20)
        down = time.time()
        time.sleep(4)
        children["agent"].kill()
        children["agent"].wait()
        agent()
        time.sleep(2)
        serve()
        wait("the agent catches up", 30, lambda: value(port, 'time() - timestamp(up{job="exporter"})') < 3)
        held = value(port, f'count_over_time(up{{job="exporter"}}[{int(time.time() - down) + 1}s])')
        # One a second; a few are lost while the agent itself is dead.
        expected = time.time() - down - 4
        print(f"      {held:.0f} scrapes kept of the {time.time() - down:.0f} s in which the server was down and the agent killed")
        failed += held < expected
        wait("heartbeats go on", 10, lambda: value(port, "time() - campanile_agent_heartbeat_seconds") < 3)
        before, began = usage(children["agent"].pid), time.time()
        time.sleep(5)
        after = usage(children["agent"].pid)
        print(f"      agent at 1 s intervals: {after[1]:.0f} MiB resident, {(after[0] - before[0]) / (time.time() - began) * 100:.1f} % of a core")
    except Exception as error:
        failed += 1
        print(f"FAIL  {error!r}")
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if failed:
            print(open(f"{folder}/log").read()[-3000:])
        shutil.rmtree(folder, ignore_errors=True)
    print("failed" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
