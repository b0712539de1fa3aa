// Why an alert was sent, or not: each route it takes, each integration, what holds it back.

import { html } from "../vendor/preact.js";
import { Tags } from "./alert-list.js";
import { get } from "./api.js";
import { ago, stamp } from "./format.js";
import { Failure, useFetch } from "./page.js";

const HEALTH = { ok: "ok", failing: "warn", open: "bad" };

// `alert` is an explanation of the server's.
export function Why({ alert }) {
  const held = [
    ...alert.silencedBy.map((id) => html`silenced by <code>${id}</code>`),
    ...alert.inhibitedBy.map((id) => html`inhibited by the alert <code>${id}</code>`),
  ];
  return html`<div class="why">
    <p><${Tags} labels=${alert.labels} /></p>
    ${held.length > 0 && html`<ul class="why-held">${held.map((one) => html`<li><span class="badge" data-level="off">held back</span> ${one}</li>`)}</ul>`}
    ${alert.groups.length === 0 && html`<p class="faint">No route takes it.</p>`}
    ${alert.groups.map(
      (group) => html`<div class="why-group"><header><code>${group.route}</code> <span>to <b>${group.receiver}</b></span>${group.mutedBy.length > 0 && html`<span class="badge" data-level="off">muted by ${group.mutedBy.join(", ")}</span>`}${group.nextLook && html`<span class="faint small">looks again ${ago(Date.parse(group.nextLook))}</span>`}</header>
        ${group.integrations.length === 0 && html`<p class="faint">This receiver has nobody to tell.</p>`}
        <ul>${group.integrations.map(
          (one) => html`<li><span class="badge" data-level=${HEALTH[one.health] ?? "off"}>${one.integration}</span> <span>${one.why}</span>
            <small class="faint">${one.toldAt ? `last told ${stamp(Date.parse(one.toldAt), true)}` : ""}</small>${one.lastError && html`<p class="is-error small">${one.lastError}</p>`}</li>`,
        )}</ul></div>`,
    )}
  </div>`;
}

// The explanation of one alert that is there.
export function WhyOf({ fingerprint, labels }) {
  const filter = labels && Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  const { data, error } = useFetch("/api/v1/alertmanager/explain", fingerprint ? { fingerprint } : { filter }, 10000, get);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton"></div>`;
  if (data.alerts.length === 0) return html`<p class="faint">The alert manager does not know it (any more).</p>`;
  return data.alerts.slice(0, 20).map((alert) => html`<${Why} key=${alert.fingerprint} alert=${alert} />`);
}
