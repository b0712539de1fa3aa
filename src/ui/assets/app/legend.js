// A chart's legend: the series with last, least and greatest value. Click shows one alone, with Ctrl or ⌘ hides one.

import { html, useState } from "../vendor/preact.js";
import { number } from "./format.js";
import { seriesColor, theme } from "./theme.js";

const ROWS_MAX = 200;

function facts(column) {
  let last = null;
  let min = Infinity;
  let max = -Infinity;
  for (const value of column) {
    if (value === null) continue;
    last = value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return last === null ? { last: null, min: null, max: null } : { last, min, max };
}

export function Legend({ names, data, unit, decimals, hidden, ghosts, onHidden }) {
  const [by, setBy] = useState(null);
  const own = (ghosts ?? []).filter((ghost) => !ghost).length;
  const colorOf = (i) => (ghosts?.[i] ? seriesColor(i - own, 0.55) : seriesColor(i));
  const rows = names.map((name, i) => ({ name, i, ...facts(data[i + 1] ?? []) }));
  if (by) rows.sort((a, b) => (by === "name" ? a.name.localeCompare(b.name) : (b[by] ?? -Infinity) - (a[by] ?? -Infinity)));
  const toggle = (name, event) => {
    const next = new Set(hidden);
    if (event.ctrlKey || event.metaKey) next.has(name) ? next.delete(name) : next.add(name);
    else {
      const alone = names.every((other) => (other === name) !== hidden.has(other));
      next.clear();
      if (!alone) names.filter((other) => other !== name).forEach((other) => next.add(other));
    }
    onHidden(next);
  };
  const head = (key, title) =>
    html`<th scope="col" class=${key === "name" ? "" : "figure"} aria-sort=${by === key ? "descending" : undefined}><button onClick=${() => setBy(by === key ? null : key)}>${title}</button></th>`;
  return html`<div class="legend scroll" data-theme-now=${theme.value}>
    <table>
      <thead><tr>${head("name", "series")}${head("last", "last")}${head("min", "min")}${head("max", "max")}</tr></thead>
      <tbody>${rows.slice(0, ROWS_MAX).map(
        ({ name, i, last, min, max }) => html`<tr key=${name} class=${hidden.has(name) ? "is-off" : ""}>
          <td><button class="legend-name" aria-pressed=${!hidden.has(name)} onClick=${(event) => toggle(name, event)} title=${name}>
            <i style=${{ background: colorOf(i) }}></i><span>${name}</span></button></td>
          <td class="figure">${number(last, unit, decimals)}</td>
          <td class="figure faint">${number(min, unit, decimals)}</td>
          <td class="figure faint">${number(max, unit, decimals)}</td>
        </tr>`,
      )}</tbody>
    </table>
    ${rows.length > ROWS_MAX ? html`<p class="faint">and ${rows.length - ROWS_MAX} more</p>` : ""}
  </div>`;
}
