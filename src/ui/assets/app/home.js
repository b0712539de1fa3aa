// Home: what is happening now. What needs attention first, then how the server and its senders do, then the machine.

import { html, useEffect, useState } from "../vendor/preact.js";
import { AlertList, useAlerts } from "./alert-list.js";
import { get, query, text } from "./api.js";
import { Sparkline } from "./bodies.js";
import { ago, number } from "./format.js";
import { Icon } from "./icons.js";
import { PageHead, useFetch } from "./page.js";
import { Panel } from "./panels.js";
import { Link } from "./router.js";
import { now, range, refresh, span } from "./time.js";
import { TimePicker } from "./timepicker.js";

const POLL = 15000;
const SPARK = 3600;

// The course of a query over the last hour: its values, or undefined while nobody knows.
function useCourse(expr) {
  const [state, setState] = useState({});
  const turn = Math.floor(now.value / POLL);
  useEffect(() => {
    const abort = new AbortController();
    const end = Math.floor(Date.now() / 60000) * 60;
    query("/api/v1/query_range", { query: expr, start: end - SPARK, end, step: 60 }, abort.signal).then(
      ({ result }) => setState({ values: result[0]?.values ?? [] }),
      (error) => error.name !== "AbortError" && setState({ error }),
    );
    return () => abort.abort();
  }, [expr, turn]);
  const last = state.values?.at(-1)?.[1];
  return { ...state, last: last === undefined ? undefined : Number(last) };
}

function Tile({ title, value, hint, level, to, params, values }) {
  return html`<${Link} to=${to} params=${params} class="tile">
    <span class="tile-title">${title}</span>
    <span class="tile-value" data-level=${level}>${value}</span>
    <span class="tile-hint">${hint}</span>
    ${values && html`<${Sparkline} values=${values} />`}
  <//>`;
}

function Course({ title, expr, unit, hint, to, params, level }) {
  const { last, values, error } = useCourse(expr);
  const shown = error ? "–" : last === undefined ? (values ? "–" : "…") : number(last, unit);
  return html`<${Tile} title=${title} value=${shown} hint=${error ? (error.status === 403 ? "not for this token" : "no answer") : hint} level=${last === undefined ? undefined : level?.(last)} to=${to} params=${params} values=${values ?? []} />`;
}

function Firing() {
  const { alerts, loaded, error } = useAlerts();
  const firing = alerts.filter((alert) => alert.state === "firing" && !alert.silenced).length;
  const pending = alerts.filter((alert) => alert.state === "pending").length;
  const silenced = alerts.filter((alert) => alert.silenced).length;
  const hint = [pending && `${pending} pending`, silenced && `${silenced} silenced`].filter(Boolean).join(", ") || (firing === 0 ? "all is well" : "see below");
  return html`<${Tile} title="Firing alerts" value=${loaded ? firing : error ? "–" : "…"} hint=${error ? "no answer" : hint} level=${!loaded ? undefined : firing > 0 ? "bad" : "ok"} to="/alerts" />`;
}

function Health() {
  const { data } = useFetch("/-/ready", undefined, 10000, text);
  const tsdb = useFetch("/api/v1/status/runtimeinfo", undefined, POLL);
  const ready = data?.status === 200;
  const broken = tsdb.data?.corruptionCount > 0 || tsdb.data?.reloadConfigSuccess === false;
  const hint = !data ? "" : !ready ? data.text.trim() : tsdb.data?.reloadConfigSuccess === false ? "the last reload failed" : broken ? "found damaged data" : tsdb.data ? `up ${ago(Date.parse(tsdb.data.startTime)).replace(" ago", "")}` : "ready";
  return html`<${Tile} title="This server" value=${!data ? "…" : ready ? (broken ? "look" : "well") : "not ready"} level=${!data ? undefined : ready ? (broken ? "warn" : "ok") : "bad"} hint=${hint} to="/status" />`;
}

function Agents() {
  const { data, error } = useFetch("/api/v1/sources", undefined, POLL);
  const sources = data?.sources ?? [];
  const late = sources.filter((source) => Date.now() - source.last_seen > 300000).length;
  const refused = sources.filter((source) => Object.values(source.refused ?? {}).some((many) => many > 0)).length;
  const hint = error ? (error.status === 403 ? "not for this token" : "no answer") : late > 0 ? `${late} silent for 5 min` : refused > 0 ? `${refused} with refused samples` : "all seen lately";
  return html`<${Tile} title="Senders" value=${data ? sources.length : error ? "–" : "…"} hint=${hint} level=${late > 0 ? "warn" : undefined} to="/status" params=${{ tab: "sources" }} />`;
}

// The fullest file system as it goes now: what is left, divided by what went in six hours (or as long as there is).
const FREE = 'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"}';
const DAYS = `min(${FREE} / clamp_min(-deriv(${FREE}[6h]), 1) / 86400) or min(node_filesystem_avail_bytes / clamp_min(-deriv(node_filesystem_avail_bytes[6h]), 1) / 86400)`;

function Disk() {
  const { last, values, error } = useCourse(DAYS);
  const shown = last === undefined ? (values || error ? "–" : "…") : last > 365 ? "over a year" : last > 2 ? `${Math.floor(last)} days` : `${Math.max(0, Math.floor(last * 24))} hours`;
  return html`<${Tile} title="Disk left" value=${shown} hint=${last === undefined ? "no host metrics" : "at the pace of the last 6 h"} level=${last === undefined ? undefined : last < 2 ? "bad" : last < 14 ? "warn" : "ok"} to="/dashboards/host" />`;
}

// What counts work, as a rate, now or some time ago. `rate` drops the metric's name, so a label keeps it.
const COUNTERS = '{__name__=~".+_total"}';
const COUNTERS_MAX = 20000;
const rates = (offset) => `sum by (metric, job) (rate(label_replace(${COUNTERS}, "metric", "$1", "__name__", "(.*)")[5m:30s]${offset}))`;

function useMovers() {
  const [state, setState] = useState({});
  const turn = Math.floor(now.value / 60000);
  useEffect(() => {
    const abort = new AbortController();
    const ask = (expr) => query("/api/v1/query", { query: expr }, abort.signal).then(({ result }) => new Map(result.map((one) => [`${one.metric.metric}\n${one.metric.job}`, { ...one.metric, rate: Number(one.value[1]) }])));
    const asked = async () => {
      const count = await query("/api/v1/query", { query: `count(${COUNTERS})` }, abort.signal);
      if (Number(count.result[0]?.value[1] ?? 0) > COUNTERS_MAX) return setState({ rows: [], many: true });
      const [present, before] = await Promise.all([ask(rates("")), ask(rates(" offset 1h"))]);
      const rows = [...present].flatMap(([key, one]) => {
        const old = before.get(key)?.rate;
        if (old === undefined || Math.max(old, one.rate) < 0.05) return [];
        return [{ ...one, old, factor: (one.rate + 0.01) / (old + 0.01) }];
      });
      rows.sort((a, b) => Math.abs(Math.log(b.factor)) - Math.abs(Math.log(a.factor)));
      setState({ rows: rows.filter(({ factor }) => Math.abs(Math.log2(factor)) > 0.3).slice(0, 8), compared: before.size > 0 });
      return undefined;
    };
    asked().catch((error) => error.name !== "AbortError" && setState({ error }));
    return () => abort.abort();
  }, [turn]);
  return state;
}

function Movers() {
  const { rows, compared, many, error } = useMovers();
  const change = ({ factor }) => (factor >= 2 ? `×${number(factor, "", 1)}` : factor >= 1 ? `+${Math.round((factor - 1) * 100)}\u202f%` : `−${Math.round((1 - factor) * 100)}\u202f%`);
  return html`<section class="panel" data-width="6" aria-labelledby="movers"><header class="panel-head"><h3 id="movers">Top movers <small class="faint">counters, against an hour ago</small></h3></header>
    ${error ? html`<p class="panel-note">${error.status === 403 ? "Not for this token." : error.message}</p>` : !rows ? html`<div class="skeleton"></div>` : rows.length === 0
      ? html`<p class="panel-note">${many ? `There are more than ${number(COUNTERS_MAX, "count")} counters: too many to compare here.` : compared ? "Nothing moved by more than a quarter." : "There is no hour of history yet to compare with."}</p>`
      : html`<div class="scroll"><table class="table"><thead><tr><th scope="col">metric</th><th scope="col">job</th><th scope="col" class="figure">then</th><th scope="col" class="figure">now</th><th scope="col" class="figure">change</th></tr></thead>
        <tbody>${rows.map((row) => html`<tr><td><${Link} to="/explore" params=${{ expr: `sum by (instance) (rate(${row.metric}${row.job ? `{job=${JSON.stringify(row.job)}}` : ""}[5m]))`, from: "now-3h", to: "now" }}>${row.metric}<//></td><td>${row.job}</td><td class="figure">${number(row.old)}</td><td class="figure">${number(row.rate)}</td><td class="figure"><b>${change(row)}</b></td></tr>`)}</tbody></table></div>`}
  </section>`;
}

function Attention() {
  const { alerts, loaded } = useAlerts();
  const shown = alerts.filter((alert) => !alert.silenced);
  return html`<section class="panel" data-width="6" aria-labelledby="attention"><header class="panel-head"><h3 id="attention">What needs attention</h3>${shown.length > 0 && html`<${Link} to="/alerts" class="small">All alerts<//>`}</header>
    ${loaded && shown.length === 0 ? html`<p class="panel-note is-well"><${Icon} name="check" /> Nothing is firing or pending.</p>` : html`<${AlertList} compact=${true} brief=${true} />`}
  </section>`;
}

// The charts of the machine that the server runs on, from the shipped dashboard.
function Machine() {
  const { data } = useFetch("/api/v1/dashboards/host");
  const [instance, setInstance] = useState();
  useEffect(() => {
    get("/api/v1/label/instance/values", { "match[]": "node_load1", limit: 1000, start: Math.floor(Date.now() / 1000) - 600 }).then((found) => setInstance(found?.[0] ?? null), () => setInstance(null));
  }, []);
  const panels = (data?.rows ?? []).flatMap((row) => row.panels).filter((panel) => panel.kind === "timeseries").slice(0, 4);
  if (!instance || panels.length === 0) return null;
  const values = Object.fromEntries(data.vars.map((one) => [one.name, one.label === "instance" ? instance : (one.default ?? (one.all ? ".*" : one.options?.[0] ?? ""))]));
  return html`<section class="row"><h2>${instance} <${Link} to="/dashboards/host" class="small">whole dashboard<//></h2>
    <div class="grid">${panels.map((panel, i) => html`<${Panel} key=${i} panel=${panel} values=${values} />`)}</div></section>`;
}

export function HomePage() {
  useEffect(() => {
    refresh.value = POLL;
    now.value = Date.now();
  }, []);
  void span.value;
  void range.value;
  return html`<${PageHead} title="Home" hint="What is happening now."><${TimePicker} /><//>
    <div class="tiles">
      <${Firing} />
      <${Health} />
      <${Course} title="Samples in" expr="sum(rate(campanile_ingest_samples_total[1m]))" unit="/s" hint="made durable" to="/dashboards/campanile" />
      <${Course} title="Active series" expr="sum(prometheus_tsdb_head_series)" unit="count" hint="in the head" to="/status" params=${{ tab: "cardinality" }} />
      <${Agents} />
      <${Disk} />
    </div>
    <div class="grid is-block"><${Attention} /><${Movers} /></div>
    <${Machine} />`;
}
