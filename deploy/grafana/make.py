#!/usr/bin/env python3
"""Writes the shipped dashboards as Grafana's: from a running server, into `dashboards/`.

    python3 deploy/grafana/make.py http://127.0.0.1:9490

Run by hand when a file of `dashboards/` changed; a test compares the two.
"""

import json
import pathlib
import sys
import urllib.request

SOURCE = {"type": "prometheus", "uid": "campanile"}
KINDS = {"timeseries": "timeseries", "stat": "stat", "gauge": "gauge", "bar": "bargauge", "table": "table", "heatmap": "heatmap", "alerts": "alertlist", "text": "text"}
UNITS = {"": "none", "count": "none", "bytes/s": "binBps", "bits/s": "bps", "seconds": "s", "ratio": "percentunit", "/s": "ops", "date": "dateTimeAsIso"}
COLORS = {"ok": "green", "warn": "orange", "bad": "red"}
HEIGHTS = {"stat": 4, "gauge": 6, "text": 3}


def fetch(base, path):
    with urllib.request.urlopen(base + path) as answer:
        return json.load(answer)["data"]


def variable(var):
    common = {"name": var["name"], "label": var.get("title", ""), "includeAll": var["all"], "multi": var.get("multi", False)}
    if "label" in var:
        query = f"label_values({var['from']}, {var['label']})"
        return {**common, "type": "query", "datasource": SOURCE, "query": {"query": query}, "refresh": 2, "regex": var.get("regex", ""), "allValue": ".*"}
    if var.get("free"):
        return {**common, "type": "textbox", "query": var.get("default", "")}
    return {**common, "type": "custom", "query": ",".join(var["options"])}


def panel(ours, place):
    kind = KINDS[ours["kind"]]
    defaults = {"unit": UNITS.get(ours["unit"], ours["unit"])}
    for key in ("min", "max", "decimals"):
        if key in ours:
            defaults[key] = ours[key]
    if ours["stack"]:
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 25}
    if ours.get("thresholds"):
        steps = [{"color": COLORS[level], "value": None if index == 0 else start} for index, (start, level) in enumerate(ours["thresholds"])]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    out = {"type": kind, "title": ours["title"], "description": ours["description"], "gridPos": place}
    if kind in ("text", "alertlist"):
        return {**out, "options": {"mode": "markdown", "content": ours["text"]} if kind == "text" else {}}
    instant = ours["kind"] in ("gauge", "bar", "table")
    targets = [
        {"refId": chr(65 + index), "datasource": SOURCE, "expr": query["query"], "legendFormat": query["legend"] or "__auto", **({"instant": True, "range": False} if instant else {}), **({"format": "table"} if kind == "table" else {})}
        for index, query in enumerate(ours["queries"])
    ]
    return {**out, "datasource": SOURCE, "fieldConfig": {"defaults": defaults, "overrides": []}, "targets": targets, **({"repeat": ours["repeat"]} if "repeat" in ours else {})}


def dashboard(name, ours):
    panels, y = [], 0
    for row in ours["rows"]:
        if row["title"]:
            panels.append({"type": "row", "title": row["title"], "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
            y += 1
        x, highest = 0, 0
        for one in row["panels"]:
            width, height = one["width"] * 2, HEIGHTS.get(one["kind"], 8)
            if x + width > 24:
                x, y, highest = 0, y + highest, 0
            panels.append(panel(one, {"x": x, "y": y, "w": width, "h": height}))
            x, highest = x + width, max(highest, height)
        y += highest
    for number, one in enumerate(panels, 1):
        one["id"] = number
    return {
        "uid": f"campanile-{name}",
        "title": ours["title"],
        "description": ours["description"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": ours["refresh"],
        "time": {"from": f"now-{ours['range']}", "to": "now"},
        "templating": {"list": [variable(var) for var in ours["vars"]]},
        "annotations": {"list": []},
        "panels": panels,
    }


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9490"
    folder = pathlib.Path(__file__).parent / "dashboards"
    for line in fetch(base, "/api/v1/dashboards"):
        if line["origin"] == "builtin":
            name = line["name"]
            text = json.dumps(dashboard(name, fetch(base, f"/api/v1/dashboards/{name}")), indent=1, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
