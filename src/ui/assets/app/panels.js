// Panels: each asks its queries when it is in sight, and shows the answer in its own way.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { query } from "./api.js";
import { Chart, columns } from "./chart.js";
import { ago, number, promDuration, seriesName } from "./format.js";
import { Legend } from "./legend.js";
import { AlertList } from "./alert-list.js";
import { seriesColor } from "./theme.js";
import { now, span, stepFor } from "./time.js";
import { Link } from "./router.js";

const CHART_HEIGHT = 210;

// Replaces `$name`, `${name}` and the built-in `$__…` in a query.
export function substitute(text, values, { from, to }, step) {
  const builtin = {
    __interval: promDuration(step),
    // At least four collections of 15 s, so that a rate never looks at a single sample.
    __rate_interval: promDuration(Math.max(step + 15000, 60000)),
    __range: promDuration(Math.round((to - from) / 1000) * 1000),
  };
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => {
    const name = braced ?? bare;
    return builtin[name] ?? (values[name] !== undefined ? values[name].replace(/\\/g, "\\\\").replace(/"/g, '\\"') : whole);
  });
}

// Whether the element was ever in sight.
function useSeen(ref) {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true),
      { rootMargin: "200px" },
    );
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return seen;
}

const asksRange = (kind) => kind === "timeseries" || kind === "stat";

// The panel's answers: `{ series, step, from, to, warnings }`, or an error; the last answer stays while a new one comes.
function useAnswers(panel, values, width, seen) {
  const [state, setState] = useState({ loading: true });
  const { from, to } = span.value;
  const ready = seen && width > 0 && Object.values(values).every((value) => value !== undefined);
  const key = JSON.stringify([panel.queries, values, from, to, Math.round(width / 100)]);
  useEffect(() => {
    if (!ready || panel.queries.length === 0) return undefined;
    const abort = new AbortController();
    const step = stepFor({ from, to }, panel.kind === "stat" ? width / 4 : width);
    const ask = async ({ query: text, legend }) => {
      const expr = substitute(text, values, { from, to }, step);
      const answer = asksRange(panel.kind)
        ? await query("/api/v1/query_range", { query: expr, start: from / 1000, end: to / 1000, step: step / 1000 }, abort.signal)
        : await query("/api/v1/query", { query: expr, time: to / 1000 }, abort.signal);
      return { series: listed(answer, legend), warnings: [...answer.warnings] };
    };
    Promise.all(panel.queries.map(ask)).then(
      (answers) =>
        setState({
          series: answers.flatMap((answer) => answer.series),
          warnings: answers.flatMap((answer) => answer.warnings),
          step,
          from,
          to,
        }),
      (error) => error.name !== "AbortError" && setState((old) => ({ ...old, loading: false, error })),
    );
    return () => abort.abort();
  }, [ready, key]);
  return state;
}

// Any kind of value as a list of named series.
function listed({ resultType, result }, legend) {
  if (resultType === "scalar") return [{ name: legend || "value", labels: {}, values: [result] }];
  if (resultType === "string") return [{ name: result[1], labels: {}, values: [] }];
  return result.map((one) => ({
    name: seriesName(one.metric, legend),
    labels: one.metric,
    values: one.values ?? (one.value ? [one.value] : []),
  }));
}

export function levelOf(thresholds, value) {
  let found;
  for (const [from, level] of thresholds ?? []) if (value >= from) found = level;
  return found;
}

const newest = (series) => (series.values.length === 0 ? undefined : Number(series.values.at(-1)[1]));

function TimeseriesBody({ panel, answer }) {
  const [hidden, setHidden] = useState(new Set());
  const data = useMemo(() => columns(answer.series, answer.from, answer.to, answer.step), [answer]);
  const names = answer.series.map((series) => series.name);
  return html`<${Chart} panel=${panel} data=${data} names=${names} hidden=${hidden} height=${CHART_HEIGHT} label=${`Chart: ${panel.title}, ${names.length} series`} />
    <${Legend} names=${names} data=${data} unit=${panel.unit} decimals=${panel.decimals} hidden=${hidden} onHidden=${setHidden} />`;
}

function StatBody({ panel, answer }) {
  return html`<div class="stats">
    ${answer.series.slice(0, 12).map((series) => {
      const value = newest(series);
      const level = levelOf(panel.thresholds, value);
      return html`<div class="stat" data-level=${level}>
        <div class="stat-value">${number(value, panel.unit, panel.decimals)}${level && level !== "ok" ? html`<span class="visually-hidden">${level}</span>` : ""}</div>
        ${answer.series.length > 1 ? html`<div class="stat-name">${series.name}</div>` : ""}
        <${Sparkline} values=${series.values} />
      </div>`;
    })}
  </div>`;
}

// The course of a value, without axes.
function Sparkline({ values }) {
  const numbers = values.map(([, value]) => Number(value)).filter(Number.isFinite);
  if (numbers.length < 2) return html`<svg class="sparkline" aria-hidden="true"></svg>`;
  const low = Math.min(...numbers);
  const high = Math.max(...numbers);
  const y = (value) => (high === low ? 15 : 27 - (24 * (value - low)) / (high - low));
  const line = numbers.map((value, i) => `${((100 * i) / (numbers.length - 1)).toFixed(2)},${y(value).toFixed(2)}`).join(" ");
  return html`<svg class="sparkline" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">
    <polygon points=${`0,30 ${line} 100,30`} /><polyline points=${line} />
  </svg>`;
}

function GaugeBody({ panel, answer }) {
  return html`<div class="gauges">
    ${answer.series.slice(0, 24).map((series) => {
      const value = newest(series);
      const share = Math.max(0, Math.min(1, (value - panel.min) / (panel.max - panel.min)));
      return html`<div class="gauge" data-level=${levelOf(panel.thresholds, value)} role="meter" aria-label=${series.name} aria-valuemin=${panel.min} aria-valuemax=${panel.max} aria-valuenow=${value}>
        <span class="gauge-name" title=${series.name}>${series.name}</span>
        <span class="gauge-value">${number(value, panel.unit, panel.decimals)}</span>
        <span class="gauge-track"><span class="gauge-fill" style=${{ width: `${share * 100}%` }}></span></span>
      </div>`;
    })}
  </div>`;
}

function TableBody({ panel, answer }) {
  const [by, setBy] = useState({ column: null, down: true });
  const labels = [...new Set(answer.series.flatMap((series) => Object.keys(series.labels)))].filter((name) => name !== "__name__").sort();
  const rows = answer.series.map((series) => ({ labels: series.labels, value: newest(series) }));
  const key = (row) => (by.column === null ? row.value : row.labels[by.column] ?? "");
  rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (by.down ? -1 : 1));
  const head = (column, title) =>
    html`<th scope="col" class=${column === null ? "figure" : ""} aria-sort=${by.column === column ? (by.down ? "descending" : "ascending") : undefined}>
      <button onClick=${() => setBy({ column, down: by.column === column ? !by.down : column === null })}>${title}</button>
    </th>`;
  return html`<div class="scroll" tabindex="0"><table class="table">
    <thead><tr>${labels.map((name) => head(name, name))}${head(null, "value")}</tr></thead>
    <tbody>${rows.slice(0, 500).map(
      (row) => html`<tr>${labels.map((name) => html`<td>${row.labels[name]}</td>`)}
        <td class="figure" data-level=${levelOf(panel.thresholds, row.value)}>${number(row.value, panel.unit, panel.decimals)}</td></tr>`,
    )}</tbody></table></div>`;
}

// Paragraphs and `- ` lists: text nodes, whatever the words hold.
function TextBody({ text }) {
  return html`<div class="prose">${text.trim().split(/\n{2,}/).map((block) => {
    const lines = block.split("\n");
    if (lines.every((line) => line.startsWith("- "))) return html`<ul>${lines.map((line) => html`<li>${line.slice(2)}</li>`)}</ul>`;
    return html`<p>${block}</p>`;
  })}</div>`;
}

const BODIES = { timeseries: TimeseriesBody, stat: StatBody, gauge: GaugeBody, table: TableBody };

function Body({ panel, answer }) {
  if (panel.kind === "text") return html`<${TextBody} text=${panel.text} />`;
  if (panel.kind === "alerts") return html`<${AlertList} compact=${true} />`;
  if (answer.error && !answer.series) return html`<p class="panel-note is-error" role="alert">${answer.error.message}</p>`;
  if (!answer.series) return html`<div class="skeleton" aria-label="loading"></div>`;
  if (answer.series.length === 0) return html`<p class="panel-note">No data in this range.</p>`;
  return html`<${BODIES[panel.kind]} panel=${panel} answer=${answer} />`;
}

// One panel on the grid.
export function Panel({ panel, values }) {
  const frame = useRef();
  const [width, setWidth] = useState(0);
  const seen = useSeen(frame);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const answer = useAnswers(panel, values, width, seen);
  const first = panel.queries[0];
  const explore = first && {
    expr: substitute(first.query, values, span.value, stepFor(span.value, width)),
  };
  return html`<section ref=${frame} class="panel" data-kind=${panel.kind} data-width=${panel.width}>
    ${panel.title &&
    html`<header class="panel-head">
      <h3 title=${panel.description}>${panel.title}</h3>
      ${answer.error && answer.series ? html`<span class="panel-stale" role="status" title=${answer.error.message}>not updated${answer.to ? ` since ${ago(answer.to, now.value)}` : ""}</span>` : ""}
      ${answer.warnings?.length > 0 ? html`<span class="panel-warning" title=${answer.warnings.join("\n")} role="note" aria-label=${answer.warnings.join(", ")}>!</span>` : ""}
      ${explore ? html`<${Link} to="/explore" params=${explore} class="panel-link" title="Open in Explore">Explore<//>` : ""}
    </header>`}
    <div class="panel-body"><${Body} panel=${panel} answer=${answer} /></div>
  </section>`;
}

export { seriesColor };
