// Queries that were run in this browser, and those that were kept.

import { html, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";

const KEPT_MAX = 50;

function recall(name) {
  try {
    const list = JSON.parse(localStorage.getItem(name) ?? "[]");
    return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
  } catch {
    return [];
  }
}

const write = (name, list) => localStorage.setItem(name, JSON.stringify(list.slice(0, KEPT_MAX)));

export const remember = (text) => write("queries", [text, ...recall("queries").filter((other) => other !== text)]);

function List({ title, list, kept, onKeep, onPick }) {
  if (list.length === 0) return null;
  return html`<section class="block"><h2>${title}</h2><ul class="history">${list.map(
    (text) => html`<li><button class="button icon is-quiet" aria-pressed=${kept.has(text)} aria-label=${kept.has(text) ? "Forget this query" : "Keep this query"} onClick=${() => onKeep(text)}><${Icon} name="star" /></button>
      <button class="linklike" onClick=${() => onPick(text)}><code>${text}</code></button></li>`,
  )}</ul></section>`;
}

const EXAMPLES = ["rate(node_cpu_seconds_total[1m])", "sum(rate(campanile_ingest_samples_total[1m]))", "histogram_quantile(0.99, sum by (le) (rate(campanile_http_request_seconds_bucket[5m])))"];

export function History({ onPick, bare }) {
  const [, redraw] = useState(0);
  const kept = new Set(recall("kept"));
  const keep = (text) => {
    kept.has(text) ? kept.delete(text) : kept.add(text);
    write("kept", [...kept]);
    redraw((n) => n + 1);
  };
  const recent = recall("queries").filter((text) => !kept.has(text));
  return html`<${List} title="Kept" list=${[...kept]} kept=${kept} onKeep=${keep} onPick=${onPick} />
    <${List} title="Recent" list=${recent} kept=${kept} onKeep=${keep} onPick=${onPick} />
    ${!bare && html`<${List} title="To begin with" list=${EXAMPLES} kept=${kept} onKeep=${keep} onPick=${onPick} />`}`;
}
