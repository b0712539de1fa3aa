// Explore: a query, its graph, its table, its tree, and what it took; or the metrics that are there.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { listed } from "./answers.js";
import { get, query } from "./api.js";
import { TimeseriesBody } from "./bodies.js";
import { CopyButton, Menu, download } from "./dialog.js";
import { Editor, errorOffset } from "./editor.js";
import { parseDuration, raw, stamp } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { History, remember } from "./history.js";
import { PageHead } from "./page.js";
import { csv } from "./panels.js";
import { place, prefixed, setParams } from "./router.js";
import { again, asked as askedAgain, compareOffset, compare, range, refresh, span, stepFor } from "./time.js";
import { TimePicker } from "./timepicker.js";

const ROWS_MAX = 1000;
const TABS = [["graph", "Graph"], ["stacked", "Stacked"], ["heat", "Heat map"], ["table", "Table"], ["tree", "Tree"], ["metrics", "Metrics"]];

// The query of the address; Prometheus's own addresses (`g0.expr`, `g0.tab`, `g0.range_input`) are understood too.
function asked(params) {
  const tab = params.tab ?? (params["g0.tab"] === "1" ? "table" : "graph");
  return {
    expr: String(params.expr ?? params["g0.expr"] ?? ""),
    tab: TABS.some(([name]) => name === tab) ? tab : "graph",
  };
}

const isRanged = (tab) => tab !== "table";

function useAnswer(expr, tab, width) {
  const [state, setState] = useState({});
  const { from, to } = span.value;
  const kind = isRanged(tab) ? "range" : "instant";
  const idle = tab === "tree" || tab === "metrics";
  const key = JSON.stringify([expr, kind, from, to, compare.value, askedAgain.value, Math.round(width / 200), idle]);
  useEffect(() => {
    if (expr.trim() === "" || width === 0 || idle) {
      setState({});
      return undefined;
    }
    const abort = new AbortController();
    const step = stepFor({ from, to }, width, 1);
    const first = Math.ceil(from / step) * step;
    const last = Math.max(first, Math.floor(to / step) * step);
    const began = performance.now();
    setState((old) => ({ ...old, loading: true }));
    const window = (shift) => ({ query: expr, start: (first - shift) / 1000, end: (last - shift) / 1000, step: step / 1000 });
    const ask = async () => {
      if (kind === "instant") return { answer: await query("/api/v1/query", { query: expr, time: to / 1000, stats: "all" }, abort.signal) };
      const answer = await query("/api/v1/query_range", { ...window(0), stats: "all" }, abort.signal);
      const series = listed(answer, "");
      const offset = compareOffset({ from, to });
      if (offset > 0) {
        const before = await query("/api/v1/query_range", window(offset), abort.signal);
        for (const one of listed(before, "")) series.push({ ...one, ghost: true, name: `${one.name} (before)`, values: one.values.map(([at, value]) => [at + offset / 1000, value]) });
      }
      return { answer, series };
    };
    ask().then(
      (found) => setState({ ...found, kind, expr, step, from: first, to: last, millis: performance.now() - began }),
      (error) => error.name !== "AbortError" && setState({ error: Object.assign(error, { query: expr }) }),
    );
    return () => abort.abort();
  }, [key]);
  return state;
}

// The line of the query that the error is in, with a caret below the place.
export function ErrorBox({ error }) {
  const offset = errorOffset(error.message, error.query);
  const before = error.query.slice(0, Math.max(0, offset));
  const start = before.lastIndexOf("\n") + 1;
  const line = error.query.slice(start).split("\n")[0];
  const [message] = error.message.split("\n");
  const suggestion = /did you mean[^\n]*/i.exec(error.hint ?? "")?.[0];
  return html`<div class="failure" role="alert">
    <b>${error.type === "bad_data" ? "The query cannot be read" : error.type === "timeout" ? "The query took too long" : error.status === 403 ? "Not allowed" : error.type === "execution" ? "The query failed" : "No answer"}</b>
    <span>${message}</span>
    ${offset >= 0 ? html`<pre>${line}${"\n"}${" ".repeat(Math.max(0, offset - start))}^</pre>` : ""}
    ${suggestion && !message.includes(suggestion) ? html`<p>${suggestion}</p>` : ""}
  </div>`;
}

function Table({ state }) {
  const { resultType, result } = state.answer;
  if (resultType === "scalar" || resultType === "string") return html`<section class="panel is-wide"><p class="scalar">${result[1]}</p></section>`;
  const labels = [...new Set(result.flatMap((one) => Object.keys(one.metric)))].sort((a, b) => (a === "__name__" ? -1 : b === "__name__" ? 1 : a.localeCompare(b)));
  const value = (one) => {
    if (one.histogram) return html`count ${one.histogram[1].count}, sum ${one.histogram[1].sum}`;
    if (one.values) return one.values.map(([at, text]) => html`<div>${text} <small class="faint">${stamp(at * 1000)}</small></div>`);
    return raw(one.value?.[1] ?? "");
  };
  return html`<section class="panel is-wide"><div class="scroll is-tall" tabindex="0"><table class="table">
      <thead><tr>${labels.map((name) => html`<th scope="col">${name === "__name__" ? "metric" : name}</th>`)}<th scope="col" class="figure">value</th></tr></thead>
      <tbody>${result.slice(0, ROWS_MAX).map((one) => html`<tr>${labels.map((name) => html`<td>${one.metric[name]}</td>`)}<td class="figure">${value(one)}</td></tr>`)}</tbody>
    </table></div>
    ${result.length > ROWS_MAX && html`<p class="panel-note">${result.length} series; the first ${ROWS_MAX} are shown.</p>`}
  </section>`;
}

function Stats({ state }) {
  const { answer, millis } = state;
  const samples = answer.stats?.samples;
  const evaluation = answer.stats?.timings?.evalTotalTime;
  const waited = answer.stats?.timings?.execQueueTime;
  const facts = [
    Array.isArray(answer.result) && answer.resultType !== "scalar" && `${answer.result.length} series`,
    samples?.totalQueryableSamples !== undefined && `${samples.totalQueryableSamples.toLocaleString("en")} samples read`,
    samples?.peakSamples !== undefined && `${samples.peakSamples.toLocaleString("en")} at most at once`,
    evaluation !== undefined && `${(evaluation * 1000).toFixed(1)} ms in the engine`,
    waited > 0.001 && `${(waited * 1000).toFixed(1)} ms waiting`,
    `${Math.round(millis)} ms in all`,
    state.kind === "range" && `step ${state.step / 1000} s`,
  ];
  return html`<p class="facts faint">${facts.filter(Boolean).join(" · ")}</p>`;
}

// A part of the page that is loaded when it is first shown.
function Later({ load, ...props }) {
  const [Part, setPart] = useState(null);
  useEffect(() => void load().then((part) => setPart(() => part)), []);
  return Part ? html`<${Part} ...${props} />` : html`<div class="skeleton page"></div>`;
}
const loadTree = async () => (await import("./tree.js")).Tree;
const loadMetrics = async () => (await import("./metrics.js")).Metrics;
const loadAlertOn = async () => (await import("./alert-on.js")).AlertOn;

const curl = (expr) => `curl -G ${JSON.stringify(location.origin + prefixed("/api/v1/query"))} --data-urlencode ${`'query=${expr.replaceAll("'", "'\\''")}'`}`;

function Result({ state, tab, options }) {
  const handle = useRef();
  const panel = useMemo(() => ({ title: "query", unit: "", stack: tab === "stacked", ...options, queries: [] }), [tab, JSON.stringify(options)]);
  if (tab === "table") return html`<${Table} state=${state} />`;
  if (tab === "heat") return html`<section class="panel is-wide"><${Heatmap} panel=${panel} series=${state.series} from=${state.from} to=${state.to} step=${state.step} height=${380} label="Heat map" /></section>`;
  return html`<section class="panel is-wide"><${TimeseriesBody} panel=${panel} answer=${state} height=${380} handle=${handle} /></section>`;
}

export function ExplorePage() {
  const { params } = place.value;
  const { expr, tab } = asked(params);
  const [draft, setDraft] = useState(expr);
  const [alerting, setAlerting] = useState(false);
  const frame = useRef();
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(frame.current.clientWidth), []);
  useEffect(() => setDraft(expr), [expr]);
  useEffect(() => {
    const wanted = parseDuration(place.peek().params["g0.range_input"] ?? "");
    if (wanted) range.value = { from: `now-${place.peek().params["g0.range_input"]}`, to: "now" };
    refresh.value = 0;
  }, []);
  const state = useAnswer(expr, tab, width);
  const run = (text) => {
    if (text.trim() !== "") remember(text.trim());
    if (text === expr) again();
    else setParams({ expr: text, "g0.expr": undefined, tab: tab === "metrics" ? "graph" : tab });
  };
  const format = async () => {
    try {
      setDraft(await get("/api/v1/format_query", { query: draft }));
    } catch {
      // Running it shows what is wrong with it.
      run(draft);
    }
  };
  const { answer, error } = state;
  const notes = answer ? [...answer.warnings.map((text) => ["warn", text]), ...answer.infos.map((text) => ["info", text])] : [];
  const empty = answer && Array.isArray(answer.result) && answer.result.length === 0;
  const fits = answer && !empty && state.kind === (isRanged(tab) ? "range" : "instant");
  const items = [
    { title: "Format the query", run: format },
    expr && { title: "Alert on this", run: () => setAlerting(true) },
    state.series && { title: "Download CSV", run: () => download("query.csv", "text/csv", csv(state.series)) },
    answer && { title: "Download JSON", run: () => download("query.json", "application/json", JSON.stringify(answer.result, null, 1)) },
  ];
  const option = (name, title) => html`<label class="check"><input type="checkbox" checked=${params[name] === "1"} onChange=${(event) => setParams({ [name]: event.target.checked ? "1" : "" })} /> ${title}</label>`;
  return html`<${PageHead} title="Explore"><${TimePicker} comparable=${true} /><//>
    <div ref=${frame} class="query-bar">
      <${Editor} value=${draft} onInput=${setDraft} onRun=${run} error=${error} />
      <button class="button is-main" onClick=${() => run(draft)}>${state.loading ? "Running…" : "Run"}</button>
      <${Menu} label="More" items=${items} />
    </div>
    <div class="tabs" role="tablist" aria-label="How it is shown">
      ${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name, "g0.tab": undefined })}>${title}</button>`)}
      <span class="tabs-end">${(tab === "graph" || tab === "stacked") && html`${option("dots", "points")}${tab === "graph" && option("log", "log")}${option("zero", "from 0")}`}</span>
    </div>
    ${error && html`<${ErrorBox} error=${error} />`}
    ${notes.map(([level, text]) => html`<p class="note" data-level=${level} role="note">${text}</p>`)}
    ${tab === "metrics" && html`<${Later} load=${loadMetrics} onQuery=${run} />`}
    ${tab === "tree" && expr !== "" && html`<${Later} load=${loadTree} expr=${expr} onQuery=${run} />`}
    ${expr === "" && tab !== "metrics" && html`<${History} onPick=${run} />`}
    ${empty && html`<p class="empty">The query is fine, and has no result in this range.</p>`}
    ${fits && html`<${Result} key=${`${tab} ${expr}`} state=${state} tab=${tab} options=${{ dots: params.dots === "1", log: params.log === "1" && tab === "graph", ...(params.zero === "1" ? { min: 0 } : {}) }} />`}
    ${answer && html`<div class="foot"><${Stats} state=${state} /><${CopyButton} text=${curl(expr)} title="Copy as curl" /></div>`}
    ${expr !== "" && answer && html`<details class="block"><summary><h2>History</h2></summary><${History} onPick=${run} bare=${true} /></details>`}
    ${alerting && html`<${Later} load=${loadAlertOn} title="" expr=${expr} onClose=${() => setAlerting(false)} />`}`;
}
