// What was sent to whom, how often it was tried and what the receiver answered; and how each receiver fares.

import { html, useState } from "../vendor/preact.js";
import { Tags } from "./alert-list.js";
import { matches } from "./alerts.js";
import { get } from "./api.js";
import { ago, stamp } from "./format.js";
import { Failure, useFetch } from "./page.js";

const POLL = 10000;
const SHOWN_MAX = 400;
const LEVELS = { firing: "bad", resolved: "ok", delivered: "ok", given_up: "bad", fallback: "warn", decided: "off", silence_created: "off", silence_changed: "off" };
const WORDS = { given_up: "given up", silence_created: "silence made", silence_changed: "silence changed", decided: "decided to tell" };
const KINDS = [["", "everything"], ["delivered", "delivered"], ["given_up", "given up"], ["decided", "decided"], ["firing", "began to fire"], ["resolved", "ended"], ["silence_created", "silences made"]];

function Receivers() {
  const { data, error } = useFetch("/api/v1/alertmanager/health", undefined, POLL, get);
  if (error && !data) return html`<${Failure} error=${error} />`;
  const receivers = data?.receivers ?? [];
  if (receivers.length === 0) return html`<p class="faint">Nobody was told anything since the start of the server.</p>`;
  return html`<div class="panel scroll" tabindex="0"><table class="table"><thead><tr><th scope="col">receiver</th><th scope="col">by</th><th scope="col">state</th><th scope="col">last success</th><th scope="col" class="figure">waiting</th><th scope="col">last failure</th></tr></thead>
    <tbody>${receivers.map((one) => html`<tr><td>${one.receiver}</td><td>${one.integration}</td><td><span class="badge" data-level=${one.state === "ok" ? "ok" : one.state === "open" ? "bad" : "warn"}>${one.state === "open" ? "waits for recovery" : one.state}</span>${one.failures > 0 && html` <small class="faint">${one.failures} in a row</small>`}</td>
      <td>${one.lastSuccess ? ago(Date.parse(one.lastSuccess)) : "–"}</td><td class="figure">${one.waiting}</td><td>${one.lastError}</td></tr>`)}</tbody></table></div>`;
}

export function Deliveries({ filter }) {
  const [kind, setKind] = useState("");
  const { data, error } = useFetch("/api/v1/alertmanager/audit", { last: 2000, event: kind || undefined }, POLL, get);
  if (error && !data) return html`<${Failure} error=${error} />`;
  const entries = (data?.entries ?? []).filter((one) => matches(filter, [one.event, one.receiver ?? "", one.why ?? "", one.by ?? "", one.answer ?? "", ...Object.values(one.labels ?? {})], one.labels)).reverse();
  return html`<section class="block"><h2>Receivers</h2><${Receivers} /></section>
    <section class="block"><h2>Log</h2>
      <p class="tools"><label class="variable">Show <select class="button" value=${kind} onChange=${(event) => setKind(event.target.value)}>${KINDS.map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select></label></p>
      ${!data ? html`<div class="skeleton"></div>` : entries.length === 0 ? html`<p class="empty">Nothing yet.</p>` : html`<div class="panel scroll is-log" tabindex="0"><table class="table">
        <thead><tr><th scope="col">when</th><th scope="col">what</th><th scope="col">alerts</th><th scope="col">to</th><th scope="col">why, answer</th></tr></thead>
        <tbody>${entries.slice(0, SHOWN_MAX).map(
          (one) => html`<tr key=${one.seq}><td class="nowrap">${stamp(Date.parse(one.at), true)}</td><td><span class="badge" data-level=${LEVELS[one.event] ?? "off"}>${WORDS[one.event] ?? one.event}</span></td>
            <td><${Tags} labels=${one.labels ?? {}} />${one.firing > 0 || one.resolved > 0 ? html` <small class="faint">${[one.firing > 0 && `${one.firing} firing`, one.resolved > 0 && `${one.resolved} resolved`].filter(Boolean).join(", ")}</small>` : ""}</td>
            <td>${one.receiver}${one.integration && html` <small class="faint">${one.integration}</small>`}</td>
            <td>${[one.why, one.by && `by ${one.by}`].filter(Boolean).join(", ")}${one.attempts > 1 && html` <small class="faint">${one.attempts} tries</small>`}${one.answer && html`<div class="faint small">${one.answer}</div>`}</td></tr>`,
        )}</tbody></table></div>`}
      ${entries.length > SHOWN_MAX && html`<p class="faint small">${entries.length} entries; the newest ${SHOWN_MAX} are shown.</p>`}
    </section>`;
}
