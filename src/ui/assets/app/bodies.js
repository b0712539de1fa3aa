// How each kind of panel shows its answer.

import { html, useMemo, useState } from "../vendor/preact.js";
import { AlertList } from "./alert-list.js";
import { worded } from "./answers.js";
import { Chart, columns } from "./chart.js";
import { number } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { Legend } from "./legend.js";

const SERIES_DRAWN_MAX = 250;
const BARS_MAX = 30;

export function levelOf(thresholds, value) {
  let found;
  for (const [from, level] of thresholds ?? []) if (value >= from) found = level;
  return found;
}

export const newest = (series) => (series.values.length === 0 ? undefined : Number(series.values.at(-1)[1]));

export function TimeseriesBody({ panel, answer, marks, height, handle }) {
  const [hidden, setHidden] = useState(new Set());
  const series = answer.series.slice(0, SERIES_DRAWN_MAX);
  const data = useMemo(() => columns(series, answer.from, answer.to, answer.step), [answer]);
  const names = series.map((one) => one.name);
  const ghosts = series.some((one) => one.ghost) ? series.map((one) => Boolean(one.ghost)) : undefined;
  return html`<${Chart} panel=${panel} data=${data} names=${names} hidden=${hidden} ghosts=${ghosts} marks=${marks} height=${height} handle=${handle} label=${`Chart: ${panel.title}, ${names.length} series`} />
    ${answer.series.length > SERIES_DRAWN_MAX && html`<p class="small faint">${answer.series.length} series; the first ${SERIES_DRAWN_MAX} are drawn.</p>`}
    <${Legend} names=${names} data=${data} unit=${panel.unit} decimals=${panel.decimals} hidden=${hidden} ghosts=${ghosts} onHidden=${setHidden} />`;
}

export function HeatmapBody({ panel, answer, height }) {
  return html`<${Heatmap} panel=${panel} series=${answer.series} from=${answer.from} to=${answer.to} step=${answer.step} height=${height} label=${`Heat map: ${panel.title}`} />`;
}

function StatBody({ panel, answer }) {
  return html`<div class="stats">
    ${answer.series.slice(0, 12).map((series) => {
      const value = newest(series);
      const level = levelOf(panel.thresholds, value);
      return html`<div class="stat" data-level=${level}>
        <div class="stat-value">${number(value, panel.unit, panel.decimals)}${level && level !== "ok" ? html`<span class="visually-hidden">${level}</span>` : ""}</div>
        ${answer.series.length > 1 ? html`<div class="stat-name" title=${series.name}>${series.name}</div>` : ""}
        <${Sparkline} values=${series.values} />
      </div>`;
    })}
  </div>`;
}

// The course of a value, without axes.
export function Sparkline({ values }) {
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

function Meter({ name, value, share, level, text, min, max }) {
  return html`<div class="gauge" data-level=${level} role="meter" aria-label=${name} aria-valuemin=${min} aria-valuemax=${max} aria-valuenow=${value} aria-valuetext=${text}>
    <span class="gauge-name" title=${name}>${name}</span>
    <span class="gauge-value">${text}</span>
    <span class="gauge-track"><span class="gauge-fill" style=${{ width: `${Math.max(0, Math.min(1, share)) * 100}%` }}></span></span>
  </div>`;
}

function GaugeBody({ panel, answer }) {
  return html`<div class="gauges">
    ${answer.series.slice(0, 24).map((series) => {
      const value = newest(series);
      const share = (value - panel.min) / (panel.max - panel.min);
      return html`<${Meter} name=${series.name} value=${value} share=${share} level=${levelOf(panel.thresholds, value)} text=${number(value, panel.unit, panel.decimals)} min=${panel.min} max=${panel.max} />`;
    })}
  </div>`;
}

function BarBody({ panel, answer }) {
  const rows = answer.series.map((series) => ({ name: series.name, value: newest(series) })).filter(({ value }) => Number.isFinite(value));
  rows.sort((a, b) => b.value - a.value);
  const most = panel.max ?? Math.max(...rows.map(({ value }) => Math.abs(value)), 1e-12);
  return html`<div class="gauges scroll is-bars">
    ${rows.slice(0, BARS_MAX).map(({ name, value }) => html`<${Meter} key=${name} name=${name} value=${value} share=${Math.abs(value) / most} level=${levelOf(panel.thresholds, value)} text=${number(value, panel.unit, panel.decimals)} min=${0} max=${most} />`)}
    ${rows.length > BARS_MAX && html`<p class="small faint">and ${rows.length - BARS_MAX} more</p>`}
  </div>`;
}

function TableBody({ panel, answer }) {
  const [by, setBy] = useState({ column: null, down: true });
  const labels = [...new Set(answer.series.flatMap((series) => Object.keys(series.labels)))].filter((name) => name !== "__name__").sort();
  const rows = answer.series.map((series) => ({ labels: series.labels, value: newest(series) }));
  const key = (row) => (by.column === null ? row.value : (row.labels[by.column] ?? ""));
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

const BODIES = { timeseries: TimeseriesBody, stat: StatBody, gauge: GaugeBody, bar: BarBody, table: TableBody, heatmap: HeatmapBody };

export function Body({ panel, answer, values, marks, height, handle }) {
  if (panel.kind === "text") return html`<${TextBody} text=${worded(panel.text, values)} />`;
  if (panel.kind === "alerts") return html`<${AlertList} compact=${true} />`;
  if (answer.error && !answer.series) {
    const forbidden = answer.error.status === 403;
    return html`<p class=${`panel-note${forbidden ? "" : " is-error"}`} role=${forbidden ? "note" : "alert"}>${forbidden ? "You may not see this: it needs another scope." : answer.error.message}</p>`;
  }
  if (!answer.series) return html`<div class="skeleton" aria-label="loading"></div>`;
  if (answer.series.length === 0) return html`<p class="panel-note">No data in this range.</p>`;
  return html`<${BODIES[panel.kind]} panel=${panel} answer=${answer} marks=${marks} height=${height} handle=${handle} />`;
}
