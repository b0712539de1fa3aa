// Explore: a query, its graph, its table, and what it took.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { query } from "./api.js";
import { Chart, columns } from "./chart.js";
import { Editor, errorOffset } from "./editor.js";
import { parseDuration, raw, seriesName, stamp } from "./format.js";
import { Legend } from "./legend.js";
import { PageHead } from "./page.js";
import { place, setParams } from "./router.js";
import { now, range, refresh, span, stepFor } from "./time.js";
import { TimePicker } from "./timepicker.js";

const SERIES_DRAWN_MAX = 250;
const ROWS_MAX = 1000;
const HISTORY_MAX = 30;

const recall = () => JSON.parse(localStorage.getItem("queries") ?? "[]");
function remember(text) {
  const list = [text, ...recall().filter((other) => other !== text)].slice(0, HISTORY_MAX);
  localStorage.setItem("queries", JSON.stringify(list));
}

// The query of the address; Prometheus's own addresses (`g0.expr`, `g0.tab`, `g0.range_input`) are understood too.
function asked(params) {
  return {
    expr: params.expr ?? params["g0.expr"] ?? "",
    tab: params.tab ?? (params["g0.tab"] === "1" ? "table" : "graph"),
  };
}

function useAnswer(expr, tab, width) {
  const [state, setState] = useState({});
  const { from, to } = span.value;
  const key = JSON.stringify([expr, tab, from, to, Math.round(width / 200)]);
  useEffect(() => {
    if (expr.trim() === "" || width === 0) {
      setState({});
      return undefined;
    }
    const abort = new AbortController();
    const step = stepFor({ from, to }, width, 1);
    const began = performance.now();
    setState((old) => ({ ...old, loading: true }));
    const params =
      tab === "graph"
        ? { query: expr, start: from / 1000, end: to / 1000, step: step / 1000, stats: "all" }
        : { query: expr, time: to / 1000, stats: "all" };
    query(tab === "graph" ? "/api/v1/query_range" : "/api/v1/query", params, abort.signal).then(
      (answer) => setState({ answer, tab, step, from, to, millis: performance.now() - began }),
      (error) => error.name !== "AbortError" && setState({ error: Object.assign(error, { query: expr }) }),
    );
    return () => abort.abort();
  }, [key]);
  return state;
}

// The line of the query that the error is in, with a caret below the place.
function ErrorBox({ error }) {
  const offset = errorOffset(error.message, error.query);
  const before = error.query.slice(0, Math.max(0, offset));
  const start = before.lastIndexOf("\n") + 1;
  const line = error.query.slice(start).split("\n")[0];
  const [message, ...more] = error.message.split("\n");
  return html`<div class="failure" role="alert">
    <b>${error.type === "bad_data" ? "The query cannot be read" : error.type === "timeout" ? "The query took too long" : "No answer"}</b>
    <span>${message}</span>
    ${offset >= 0 ? html`<pre>${line}${"\n"}${" ".repeat(offset - start)}^</pre>` : more.length > 0 ? html`<pre>${more.join("\n")}</pre>` : ""}
  </div>`;
}

function Graph({ state, stack }) {
  const [hidden, setHidden] = useState(new Set());
  const series = state.answer.result.slice(0, SERIES_DRAWN_MAX);
  const data = useMemo(() => columns(series, state.from, state.to, state.step), [state.answer]);
  const names = series.map((one) => seriesName(one.metric));
  const panel = { unit: "", stack };
  return html`<section class="panel is-wide">
    <${Chart} panel=${panel} data=${data} names=${names} hidden=${hidden} height=${380} label=${`Graph of ${names.length} series`} />
    ${state.answer.result.length > SERIES_DRAWN_MAX && html`<p class="panel-note">${state.answer.result.length} series; the first ${SERIES_DRAWN_MAX} are drawn.</p>`}
    <${Legend} names=${names} data=${data} unit="" hidden=${hidden} onHidden=${setHidden} />
  </section>`;
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
  const facts = [
    Array.isArray(answer.result) && answer.resultType !== "scalar" && `${answer.result.length} series`,
    samples?.totalQueryableSamples !== undefined && `${samples.totalQueryableSamples.toLocaleString("en")} samples read`,
    samples?.peakSamples !== undefined && `${samples.peakSamples.toLocaleString("en")} at most at once`,
    evaluation !== undefined && `${(evaluation * 1000).toFixed(1)} ms in the engine`,
    `${Math.round(millis)} ms in all`,
    state.tab === "graph" && `step ${state.step / 1000} s`,
  ];
  return html`<p class="facts faint">${facts.filter(Boolean).join(" · ")}</p>`;
}

function History({ onPick }) {
  const list = recall();
  if (list.length === 0) return html`<p class="empty">Write a query above, for example <button class="linklike" onClick=${() => onPick("rate(node_cpu_seconds_total[1m])")}><code>rate(node_cpu_seconds_total[1m])</code></button>.</p>`;
  return html`<section class="block"><h2>Recent queries</h2><ul class="history">${list.map((text) => html`<li><button class="linklike" onClick=${() => onPick(text)}><code>${text}</code></button></li>`)}</ul></section>`;
}

export function ExplorePage() {
  const { expr, tab } = asked(place.value.params);
  const [draft, setDraft] = useState(expr);
  const [stack, setStack] = useState(false);
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
    if (text === expr) now.value = Date.now();
    else setParams({ expr: text, "g0.expr": undefined });
  };
  const { answer, error } = state;
  const notes = answer ? [...answer.warnings.map((text) => ["warn", text]), ...answer.infos.map((text) => ["info", text])] : [];
  const empty = answer && Array.isArray(answer.result) && answer.result.length === 0;
  return html`<${PageHead} title="Explore"><${TimePicker} /><//>
    <div ref=${frame} class="query-bar">
      <${Editor} value=${draft} onInput=${setDraft} onRun=${run} error=${error} />
      <button class="button is-main" onClick=${() => run(draft)}>${state.loading ? "Running…" : "Run"}</button>
    </div>
    <div class="tabs" role="tablist">
      ${[["graph", "Graph"], ["table", "Table"]].map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name, "g0.tab": undefined })}>${title}</button>`)}
      <span class="tabs-end">${tab === "graph" && html`<label class="check"><input type="checkbox" checked=${stack} onChange=${(event) => setStack(event.target.checked)} /> stacked</label>`}</span>
    </div>
    ${error && html`<${ErrorBox} error=${error} />`}
    ${notes.map(([level, text]) => html`<p class="note" data-level=${level} role="note">${text}</p>`)}
    ${expr === "" && html`<${History} onPick=${run} />`}
    ${empty && html`<p class="empty">The query is fine, and has no result in this range.</p>`}
    ${answer && !empty && state.tab === tab && (tab === "graph" ? html`<${Graph} key=${`${expr} ${stack}`} state=${state} stack=${stack} />` : html`<${Table} state=${state} />`)}
    ${answer && html`<${Stats} state=${state} />`}`;
}
