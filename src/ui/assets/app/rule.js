// One rule: its value against its limit over time, its alerts, why each was (not) sent, what it did before.

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { AlertLine, identity, Tags, useAlerts } from "./alert-list.js";
import { get, may, query } from "./api.js";
import { useAnswers } from "./answers.js";
import { stateOf } from "./alerts.js";
import { TimeseriesBody } from "./bodies.js";
import { ago, duration, number, stamp } from "./format.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { go, Link, place, setParams } from "./router.js";
import { now, range, refresh, span } from "./time.js";
import { TimePicker } from "./timepicker.js";
import { print } from "./tree.js";
import { WhyOf } from "./why.js";

const POLL = 10000;
const COMPARISONS = new Set([">", ">=", "<", "<=", "==", "!="]);
const DAY = 86400000;

// A rule `value > limit` apart: what to draw as lines, and the limits when they are numbers.
function apart(node) {
  if (node.type === "parenExpr") return apart(node.expr);
  // A detector's score is drawn as what it judges: the value within its band.
  if (node.type === "call" && node.func.name === "anomaly_score") return { values: [`anomaly_bands(${node.args.map(print).join(", ")})`], limits: [], banded: true };
  if (node.type !== "binaryExpr") return { values: [print(node)], limits: [] };
  if (node.op === "and" || node.op === "or" || node.op === "unless") {
    const [left, right] = [apart(node.lhs), node.op === "unless" ? { values: [], limits: [] } : apart(node.rhs)];
    return { values: [...left.values, ...right.values], limits: [...left.limits, ...right.limits], banded: left.banded && right.values.length === 0 };
  }
  if (!COMPARISONS.has(node.op)) return { values: [print(node)], limits: [] };
  if (node.lhs.type === "call" && node.lhs.func.name === "anomaly_score") return apart(node.lhs);
  const plain = (side) => (side.type === "parenExpr" ? plain(side.expr) : side);
  const [left, right] = [plain(node.lhs), plain(node.rhs)];
  if (right.type === "numberLiteral") return { values: [print(left)], limits: [[Number(right.val), node.op]] };
  if (left.type === "numberLiteral") return { values: [print(right)], limits: [[Number(left.val), node.op]] };
  return { values: [print(left), print(right)], limits: [] };
}

function useApart(text) {
  const [state, setState] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    get("/api/v1/parse_query", { query: text }, abort.signal).then(
      (tree) => setState(apart(tree)),
      (error) => error.name !== "AbortError" && setState({ values: [text], limits: [] }),
    );
    return () => abort.abort();
  }, [text]);
  return state;
}

const BANDS = ["value", "expected", "lower", "upper"];

// The series of a detector in the order in which they are drawn; the score has another scale and is left out.
function banded(answer) {
  const shown = answer.series.filter((one) => BANDS.includes(one.labels.band));
  const { band: _, ...first } = shown[0]?.labels ?? {};
  const same = (one) => Object.entries(first).every(([name, value]) => one.labels[name] === value);
  const series = shown.filter(same).sort((a, b) => BANDS.indexOf(a.labels.band) - BANDS.indexOf(b.labels.band));
  return { ...answer, series: series.map((one) => ({ ...one, name: one.labels.band })), elements: shown.length / Math.max(1, series.length) };
}

const seconds = (text) => Date.parse(text);

// When the rule's alerts were pending and firing, from `ALERTS`.
function useFired(name) {
  const [marks, setMarks] = useState([]);
  const { from, to } = span.value;
  const minute = Math.floor(to / 30000);
  useEffect(() => {
    const abort = new AbortController();
    const step = Math.max(15, Math.ceil((to - from) / 1000 / 700));
    query("/api/v1/query_range", { query: `max by (alertstate) (ALERTS{alertname=${JSON.stringify(name)}})`, start: from / 1000, end: to / 1000, step }, abort.signal).then(
      ({ result }) => {
        const out = [];
        for (const { metric, values } of result) {
          let open;
          for (const [at] of values) {
            if (open && at * 1000 - open.to <= step * 1500) open.to = at * 1000;
            else out.push((open = { title: metric.alertstate, level: metric.alertstate === "firing" ? "bad" : "warn", from: at * 1000, to: at * 1000 }));
          }
        }
        setMarks(out);
      },
      () => {},
    );
    return () => abort.abort();
  }, [name, range.value, minute]);
  return marks;
}

function ValueChart({ rule }) {
  const split = useApart(rule.query);
  const marks = useFired(rule.name);
  const [width, setWidth] = useState(0);
  const frame = (element) => element && width === 0 && setWidth(element.clientWidth);
  const limits = split?.limits ?? [];
  const panel = useMemo(
    () => ({
      kind: "timeseries",
      title: rule.name,
      unit: "",
      queries: (split?.values ?? []).map((text) => ({ query: text, legend: "" })),
      thresholds: limits.map(([from]) => [from, "bad"]),
      lines: limits,
    }),
    [JSON.stringify(split), rule.name],
  );
  const asked = useAnswers(panel, {}, width, split !== null);
  const answer = useMemo(() => (split?.banded && asked.series ? banded(asked) : asked), [asked, split?.banded]);
  const at = (name) => answer.series.findIndex((one) => one.name === name);
  const band = split?.banded && answer.series && at("lower") >= 0 && at("upper") >= 0 ? [at("lower"), at("upper")] : undefined;
  return html`<section class="panel is-wide"><header class="panel-head"><h3>${limits.length > 0 ? html`Value against ${limits.map(([from, op]) => html`<span class="tag">${op} ${number(from)}</span> `)}` : "Value"} ${split?.banded ? html`against what was expected${answer.elements > 1 ? html` <small class="faint">the first of ${answer.elements}</small>` : ""}` : ""} <small class="faint">shaded while pending or firing</small></h3></header>
    <div ref=${frame}>${answer.error && !answer.series ? html`<p class="panel-note is-error">${answer.error.message}</p>` : !answer.series ? html`<div class="skeleton page"></div>` : answer.series.length === 0 ? html`<p class="panel-note">No data in this range.</p>` : html`<${TimeseriesBody} key=${String(band)} panel=${band ? { ...panel, band } : panel} answer=${answer} marks=${marks} height=${280} />`}</div>
  </section>`;
}

// Days of the last month, each as dark as the rule fired long.
function Calendar({ name }) {
  const [days, setDays] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    const end = Math.floor(Date.now() / 1000 / 300) * 300;
    query("/api/v1/query_range", { query: `max(ALERTS{alertname=${JSON.stringify(name)},alertstate="firing"})`, start: end - 30 * 86400, end, step: 300 }, abort.signal).then(
      ({ result }) => {
        const found = new Map();
        for (const [at] of result[0]?.values ?? []) {
          const day = stamp(at * 1000).slice(0, 10);
          found.set(day, (found.get(day) ?? 0) + 300);
        }
        setDays(Array.from({ length: 30 }, (_, i) => stamp(Date.now() - (29 - i) * DAY).slice(0, 10)).map((day) => ({ day, seconds: found.get(day) ?? 0 })));
      },
      () => setDays([]),
    );
    return () => abort.abort();
  }, [name]);
  if (!days || days.length === 0) return null;
  const word = (length) => (length === 0 ? "did not fire" : `fired for ${duration(length * 1000)}`);
  return html`<section class="block"><h2>The last 30 days</h2><ol class="days" aria-label="Firing by day">${days.map(
    ({ day, seconds: length }) => html`<li data-heat=${length === 0 ? 0 : length < 900 ? 1 : length < 7200 ? 2 : 3} title=${`${day}: ${word(length)}`}><span class="visually-hidden">${day}: ${word(length)}</span><i aria-hidden="true">${day.slice(8)}</i></li>`,
  )}</ol></section>`;
}

const CHANGES = { firing: "bad", pending: "warn", resolved: "ok", inactive: "ok" };

function History({ name }) {
  const { data, error } = useFetch("/api/v1/rules/history", { rule: name }, POLL, get);
  if (error && !data) return html`<${Failure} error=${error} />`;
  const rules = data?.rules ?? [];
  const transitions = rules.flatMap((rule) => rule.transitions).sort((a, b) => seconds(b.at) - seconds(a.at));
  const evaluations = rules.flatMap((rule) => rule.evaluations).sort((a, b) => seconds(b.at) - seconds(a.at)).slice(0, 20);
  return html`<section class="block"><h2>Transitions</h2>${transitions.length === 0 ? html`<p class="faint">None since the rule was loaded.</p>` : html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">when</th><th scope="col">became</th><th scope="col" class="figure">value</th><th scope="col">labels</th></tr></thead>
      <tbody>${transitions.slice(0, 200).map((one) => html`<tr><td class="nowrap">${stamp(seconds(one.at), true)}</td><td><span class="badge" data-level=${CHANGES[one.to] ?? "off"}>${one.to}</span></td><td class="figure">${number(Number(one.value))}</td><td><${Tags} labels=${one.labels} without=${["alertname"]} /></td></tr>`)}</tbody></table></div>`}</section>
    <details class="block"><summary><h2>Evaluations</h2></summary><div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">when</th><th scope="col" class="figure">took</th><th scope="col" class="figure">results</th><th scope="col">error</th></tr></thead>
      <tbody>${evaluations.map((one) => html`<tr><td class="nowrap">${stamp(seconds(one.at), true)}</td><td class="figure">${number(one.seconds, "seconds")}</td><td class="figure">${one.results}</td><td class="is-error">${one.error}</td></tr>`)}</tbody></table></div></details>`;
}

function Detail({ rule, group }) {
  const { alerts, again } = useAlerts();
  const silenced = new Set(alerts.filter((alert) => alert.silenced).map((alert) => identity(alert.labels)));
  const { state, level } = stateOf(rule);
  const why = place.value.params.why;
  const facts = [
    ["state", html`<span class="badge" data-level=${level}>${state}</span>`],
    ["for", rule.duration > 0 ? duration(rule.duration * 1000) : "at once"],
    rule.keepFiringFor > 0 && ["keeps firing for", duration(rule.keepFiringFor * 1000)],
    ["group", `${group.name}, every ${duration(group.interval * 1000)}`],
    ["file", group.file],
    ["evaluated", rule.lastEvaluation && seconds(rule.lastEvaluation) > 0 ? `${ago(seconds(rule.lastEvaluation), Math.max(now.value, seconds(rule.lastEvaluation)))} in ${(rule.evaluationTime * 1000).toFixed(1)} ms` : "not yet"],
  ].filter(Boolean);
  return html`<dl class="facts-row">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${rule.lastError && html`<div class="failure" role="alert"><b>The last evaluation failed</b> ${rule.lastError}</div>`}
    <${Link} to="/explore" params=${{ expr: rule.query }} class="code-link"><code>${rule.query}</code><//>
    ${rule.condition && html`<p class="small">Condition: <code>${typeof rule.condition === "string" ? rule.condition : JSON.stringify(rule.condition)}</code></p>`}
    <p class="spaced"><${Tags} labels=${rule.labels ?? {}} /></p>
    <${ValueChart} key=${rule.query} rule=${rule} />
    ${(rule.alerts ?? []).length > 0 && html`<section class="block"><h2>Alerts <small class="faint">${rule.alerts.length}</small></h2>
      <ul class="alerts">${rule.alerts.slice(0, 100).map((alert) => {
        const id = identity(alert.labels);
        return html`<${AlertLine} key=${id} alert=${alert} silenced=${silenced.has(id)} onDone=${again} />
          ${may("alerts") && html`<li class="why-line"><button class="linklike small" aria-expanded=${why === id} onClick=${() => setParams({ why: why === id ? undefined : id })}>${why === id ? "hide" : "why was it (not) sent?"}</button>${why === id && html`<${WhyOf} labels=${alert.labels} />`}</li>`}`;
      })}</ul></section>`}`;
}

export function RulePage({ name }) {
  const { data, error } = useFetch("/api/v1/rules", { type: "alert", "rule_name[]": name }, POLL, get);
  useEffect(() => {
    refresh.value = 15000;
  }, []);
  const found = (data?.groups ?? []).flatMap((group) => group.rules.filter((rule) => rule.name === name).map((rule) => ({ group, rule })));
  return html`<p class="crumbs"><${Link} to="/alerts" params=${{ tab: "rules" }}>All rules<//></p>
    <${PageHead} title=${name} hint=${found[0]?.rule.alerts?.[0]?.annotations?.summary ?? found[0]?.rule.annotations?.summary?.replace(/\{\{.*?\}\}/g, "…")}><${TimePicker} /><//>
    ${error && !data ? html`<${Failure} error=${error} />` : !data ? html`<div class="skeleton page"></div>` : found.length === 0 ? html`<p class="empty">No rule of this name is loaded here. <button class="linklike" onClick=${() => go("/alerts", { filter: name })}>Look among the alerts</button></p>` : ""}
    ${found.map(({ group, rule }, i) => html`<${Detail} key=${i} group=${group} rule=${rule} />`)}
    ${found.length > 0 && html`<${Backtest} name=${name} /><${Calendar} name=${name} /><${History} name=${name} />`}`;
}

// Would have fired: the server replays the rule over the last 30 days.
function Backtest({ name }) {
  const [Part, setPart] = useState(null);
  const open = () => import("./backtest.js").then((module) => setPart(() => module.Backtest));
  return html`<section class="block"><h2>Backtest</h2>${Part ? html`<${Part} name=${name} />` : html`<p><button class="button" onClick=${open}>Try it on what is stored</button></p>`}</section>`;
}
