#!/usr/bin/env python3
"""Scrapes an exporter at a fixed interval and writes what changed, for `bytes.py`.

    prometheus-node-exporter --web.listen-address=127.0.0.1:9100 &
    benches/capture.py http://127.0.0.1:9100/metrics --every 15 --minutes 120 node-15s.tsv

One line a scrape: its time in milliseconds as it happened (a few of them late), then `index=value` for every series that
moved and `index=-` for one that is gone. A line `#index<TAB>name{labels}` names a series before its first value.
"""
import argparse
import time
import urllib.request


def scrape(url):
    """Returns the exposition's samples: name and labels as they stand there, with the value's text."""
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    lines = (line for line in text.split("\n") if line and line[0] != "#")
    return dict(line.rsplit(" ", 1) for line in lines)


def changes(at, found, last, ids, out):
    for name in found:
        if name not in ids:
            ids[name] = len(ids)
            out.write(f"#{ids[name]}\t{name}\n")
    moved = [f"{ids[name]}={value}" for name, value in found.items() if last.get(name) != value]
    gone = [f"{ids[name]}=-" for name in last if name not in found]
    out.write("\t".join([str(at), *moved, *gone]) + "\n")
    out.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("file")
    parser.add_argument("--every", type=float, default=15, help="seconds between scrapes")
    parser.add_argument("--minutes", type=float, default=120)
    args = parser.parse_args()
    end = time.time() + args.minutes * 60
    ids, last = {}, {}
    with open(args.file, "w") as out:
        due = time.time()
        while due < end:
            time.sleep(max(0, due - time.time()))
            at = int(time.time() * 1000)
            try:
                found = scrape(args.url)
            except OSError as error:
                print(f"scrape failed: {error}")
            else:
                changes(at, found, last, ids, out)
                last = found
            due = max(due + args.every, time.time())


if __name__ == "__main__":
    main()
