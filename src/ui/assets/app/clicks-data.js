// How the store of events is: what came, what was refused and why, what is on the disk.

import { html } from "../vendor/preact.js";
import { Calendar, Recalculation } from "./clicks-audit.js";
import { number, stamp } from "./format.js";
import { useFetch } from "./page.js";

const QUARANTINED = 200;

function Facts({ facts }) {
  return html`<dl class="facts-list">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Quarantine() {
  const { data, error } = useFetch("/api/v1/events/quarantine", { limit: QUARANTINED }, 10000);
  const events = data?.events ?? [];
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return html`<section class="block"><h2>Refused events <small class="faint">kept for 7 days</small></h2>
    ${error ? html`<p class="faint">${error.message}</p>` : !data ? html`<div class="skeleton"></div>` : events.length === 0 ? html`<p class="faint">None.</p>` : html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">when</th><th scope="col">reason</th><th scope="col">what was sent</th></tr></thead>
      <tbody>${events.map((one) => html`<tr><td class="nowrap">${stamp(Number(one.at ?? one.received_at ?? 0), true)}</td><td><span class="tag">${[one.field, one.reason].filter(Boolean).map(text).join(": ")}</span></td><td><code class="wrapped">${text(one.event ?? one.text ?? one.body ?? one)}</code></td></tr>`)}</tbody></table></div>`}</section>`;
}

export function Data({ status }) {
  if (!status) return html`<div class="skeleton page"></div>`;
  const count = (value) => (value ?? 0).toLocaleString("en");
  const share = (part) => (status.received > 0 ? ` (${((100 * part) / status.received).toFixed(2)}\u202f%)` : "");
  const { files = {}, raw = {}, log = {} } = status;
  return html`<div class="columns">
      <section class="block"><h2>What came</h2><${Facts} facts=${[
        ["received", count(status.received)],
        ["accepted", count(status.accepted)],
        ["duplicates", count(status.duplicate) + share(status.duplicate)],
        ["rejected", count(status.rejected) + share(status.rejected)],
        ["marked as bots or invalid", count(status.bot) + share(status.bot)],
        ["late", count(status.late)],
        ["waiting for the disk", count(status.pending)],
      ]} /></section>
      <section class="block"><h2>Where it is</h2><${Facts} facts=${[
        ["counted up to", stamp(status.watermark)],
        ["log", `position ${count(log.position)}, ${number(log.bytes, "bytes")}`],
        ["checkpoint", count(log.checkpoint)],
        ["memory", number(status.memory_bytes, "bytes")],
        ["files of counts, ids, raw events", [files.cells, files.ids, files.raw].map(count).join(", ")],
        ["raw events", `${count(raw.events)} in ${number(raw.bytes, "bytes")}`],
      ]} /></section>
    </div>
    ${status.lost?.length > 0 && html`<section class="block"><h2>Damaged</h2><ul class="alerts">${status.lost.map((lost) => html`<li class="alert" data-level="bad"><div class="alert-main"><b>${lost.file}</b><p>${lost.reason}</p><span class="faint">${stamp(lost.from)} to ${stamp(lost.to)}</span></div></li>`)}</ul></section>`}
    <${Calendar} /><${Recalculation} /><${Quarantine} />`;
}
