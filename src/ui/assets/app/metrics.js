// The metrics that are there: found by name or help, with type, unit, series, and the labels of one.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, query } from "./api.js";
import { number } from "./format.js";
import { Failure, useFetch } from "./page.js";
import { place, setParams } from "./router.js";
import { span } from "./time.js";

const SHOWN_MAX = 200;
const VALUES_MAX = 12;

// What one asks of a metric first, by its type.
export function suggestion(name, type) {
  if (type === "histogram") return `histogram_quantile(0.95, sum by (le) (rate(${name}${name.endsWith("_bucket") ? "" : "_bucket"}[5m])))`;
  if (type === "counter" || name.endsWith("_total")) return `sum by (instance) (rate(${name}[5m]))`;
  return name;
}

function Labels({ name }) {
  const [labels, setLabels] = useState(null);
  const [error, setError] = useState(null);
  const { from, to } = span.value;
  useEffect(() => {
    const abort = new AbortController();
    const ask = { "match[]": `{__name__=${JSON.stringify(name)}}`, start: from / 1000, end: to / 1000, limit: 5000 };
    get("/api/v1/series", ask, abort.signal).then(
      (series) => {
        const values = new Map();
        for (const one of series) {
          for (const [label, value] of Object.entries(one)) {
            if (label === "__name__") continue;
            if (!values.has(label)) values.set(label, new Map());
            values.get(label).set(value, (values.get(label).get(value) ?? 0) + 1);
          }
        }
        setLabels({ count: series.length, all: [...values].sort((a, b) => b[1].size - a[1].size) });
      },
      (problem) => problem.name !== "AbortError" && setError(problem),
    );
    return () => abort.abort();
  }, [name]);
  if (error) return html`<${Failure} error=${error} />`;
  if (!labels) return html`<div class="skeleton"></div>`;
  return html`<p class="faint small">${labels.count >= 5000 ? "at least " : ""}${labels.count.toLocaleString("en")} series in the range</p>
    <div class="scroll"><table class="table"><thead><tr><th scope="col">label</th><th scope="col" class="figure">values</th><th scope="col">most frequent</th></tr></thead>
    <tbody>${labels.all.map(([label, values]) => {
      const top = [...values].sort((a, b) => b[1] - a[1]).slice(0, VALUES_MAX);
      return html`<tr><td>${label}</td><td class="figure">${values.size}</td><td><span class="tags">${top.map(([value, count]) => html`<span class="tag" title=${`${count} series`}>${value || "(empty)"}</span>`)}${values.size > VALUES_MAX && html`<span class="faint small">and ${values.size - VALUES_MAX} more</span>`}</span></td></tr>`;
    })}</tbody></table></div>`;
}

export function Metrics({ onQuery }) {
  const names = useFetch("/api/v1/label/__name__/values", { limit: 50000 });
  const about = useFetch("/api/v1/metadata", { limit_per_metric: 1 });
  const [counts, setCounts] = useState(new Map());
  const { find = "", metric } = place.value.params;
  const wanted = find.toLowerCase().split(/\s+/).filter(Boolean);
  const meta = about.data ?? {};
  // A counter or histogram is described under its family's name.
  const of = (name) => meta[name]?.[0] ?? meta[name.replace(/_(bucket|count|sum|total)$/, "")]?.[0] ?? {};
  const all = (names.data ?? []).filter((name) => wanted.every((word) => name.toLowerCase().includes(word) || (of(name).help ?? "").toLowerCase().includes(word)));
  const shown = all.slice(0, SHOWN_MAX);
  useEffect(() => {
    const abort = new AbortController();
    query("/api/v1/query", { query: 'topk(2000, count by (__name__) ({__name__!=""}))' }, abort.signal).then(
      ({ result }) => setCounts(new Map(result.map((one) => [one.metric.__name__, Number(one.value[1])]))),
      () => {},
    );
    return () => abort.abort();
  }, []);
  if (names.error) return html`<${Failure} error=${names.error} />`;
  if (!names.data) return html`<div class="skeleton page"></div>`;
  const most = Math.max(1, ...shown.map((name) => counts.get(name) ?? 0));
  return html`<div class="explorer">
    <div class="explorer-list">
      <input type="search" aria-label="Find metrics by name or help" placeholder="Find by name or help" value=${find} onInput=${(event) => setParams({ find: event.target.value })} />
      <p class="faint small" role="status">${all.length.toLocaleString("en")} metrics${all.length > SHOWN_MAX ? `, the first ${SHOWN_MAX} are shown` : ""}</p>
      <ul class="scroll metric-list">${shown.map(
        (name) => html`<li key=${name}><button class="metric-line" aria-current=${name === metric ? "true" : undefined} onClick=${() => setParams({ metric: name })}>
          <span class="top-bar" style=${{ width: `${(100 * (counts.get(name) ?? 0)) / most}%` }}></span><span class="metric-name">${name}</span><small class="faint">${counts.has(name) ? number(counts.get(name), "count") : ""}</small></button></li>`,
      )}</ul>
    </div>
    <section class="panel explorer-detail" aria-live="polite">${metric
      ? html`<header><h2>${metric}</h2><p class="tags"><span class="tag">${of(metric).type ?? "unknown type"}</span>${of(metric).unit && html`<span class="tag">${of(metric).unit}</span>`}</p>
          <p>${of(metric).help || html`<span class="faint">No help text came with it.</span>`}</p>
          <button class="button is-main" onClick=${() => onQuery(suggestion(metric, of(metric).type))}>Explore</button></header>
          <${Labels} key=${metric} name=${metric} />`
      : html`<p class="panel-note">Choose a metric to see its labels and what it means.</p>`}
    </section>
  </div>`;
}
