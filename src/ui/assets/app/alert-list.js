// Alerts as lines: what, how bad, since when, and a silence in two clicks.

import { html, useState } from "../vendor/preact.js";
import { get, may, plain, post } from "./api.js";
import { ago, duration, number } from "./format.js";
import { Icon } from "./icons.js";
import { Failure, useFetch } from "./page.js";
import { Link } from "./router.js";
import { now } from "./time.js";
import { Popover } from "./timepicker.js";

const POLL = 10000;
const HOUR = 36e5;
const LENGTHS = [["30m", HOUR / 2], ["1h", HOUR], ["2h", 2 * HOUR], ["4h", 4 * HOUR], ["8h", 8 * HOUR], ["1d", 24 * HOUR], ["3d", 72 * HOUR], ["1w", 168 * HOUR]];
const ORDER = { firing: 0, pending: 1 };
const WORST = ["bad", "warn", "ok"];
const SEVERITIES = { critical: "bad", page: "bad", error: "bad", warning: "warn", info: "ok", none: "ok" };

// How an alert is coloured: by its `severity`, bad when it has none.
export const levelOfAlert = (labels, state) => (state === "pending" ? "warn" : (SEVERITIES[labels.severity] ?? "bad"));

// Labels as small tags; those in `without` were said elsewhere.
export function Tags({ labels, without = [] }) {
  const shown = Object.entries(labels).filter(([name]) => !without.includes(name));
  return html`<span class="tags">${shown.map(([name, value]) => html`<span class="tag"><span class="faint">${name}=</span>${value}</span>`)}</span>`;
}

// Only http and https may be followed: a label or an annotation is whatever somebody has sent.
export function SafeLink({ href, children }) {
  const safe = /^https?:\/\//i.test(href ?? "");
  return safe ? html`<a href=${href} rel="noreferrer noopener" target="_blank">${children}</a>` : null;
}

// A silence for exactly this alert: choose which labels count, then a length, and it is made.
export function SilenceButton({ labels, onDone }) {
  const [left, setLeft] = useState(new Set());
  const [comment, setComment] = useState("");
  const [state, setState] = useState(null);
  const names = Object.keys(labels);
  const toggle = (name) => {
    const next = new Set(left);
    next.has(name) ? next.delete(name) : next.add(name);
    setLeft(next);
  };
  const make = async (millis) => {
    const kept = names.filter((name) => !left.has(name));
    const body = {
      matchers: kept.map((name) => ({ name, value: labels[name], isRegex: false, isEqual: true })),
      startsAt: new Date().toISOString(),
      endsAt: new Date(Date.now() + millis).toISOString(),
      createdBy: localStorage.getItem("author") || "web page",
      comment: comment || "silenced from the list of alerts",
    };
    try {
      await post("/api/v2/silences", body);
      setState({ done: duration(millis) });
      onDone?.();
    } catch (error) {
      setState({ error });
    }
  };
  if (state?.done) return html`<span class="done" role="status"><${Icon} name="check" /> silenced for ${state.done}</span>`;
  return html`<${Popover} class="button is-quiet" label="Silence this alert" button=${html`<${Icon} name="silence" /> Silence`}>
    ${() => html`<p class="popover-title">Silence alerts with</p>
      <div class="tags">${names.map((name) => html`<button class="tag" aria-pressed=${!left.has(name)} onClick=${() => toggle(name)}><span class="faint">${name}=</span>${labels[name]}</button>`)}</div>
      <input placeholder="Comment (optional)" aria-label="Comment" value=${comment} onInput=${(event) => setComment(event.target.value)} />
      <p class="popover-title">for</p>
      <div class="choices">${LENGTHS.map(([name, millis]) => html`<button class="choice" disabled=${left.size === names.length} onClick=${() => make(millis)}>${name}</button>`)}</div>
      ${state?.error && html`<p class="is-error" role="alert">${state.error.message}</p>`}`}
  <//>`;
}

export function AlertLine({ alert, silenced, compact, without = [], onDone }) {
  const { labels, annotations = {}, state } = alert;
  const summary = annotations.summary ?? annotations.description ?? annotations.message;
  return html`<li class=${`alert${compact ? " is-compact" : ""}`} data-level=${silenced ? "off" : levelOfAlert(labels, state)}>
    <div class="alert-main">
      <div class="alert-head">
        <${Link} to=${`/alerts/${encodeURIComponent(labels.alertname ?? "")}`} class="alert-name">${labels.alertname || "(no name)"}<//>
        <span class="badge" data-level=${silenced ? "off" : levelOfAlert(labels, state)}>${silenced ? "silenced" : state}</span>
        <span class="faint" title=${alert.activeAt}>${ago(Date.parse(alert.activeAt), Math.max(now.value, Date.parse(alert.activeAt)))}</span>
        ${alert.value !== undefined && html`<span class="faint">value ${number(Number(alert.value))}</span>`}
      </div>
      ${summary && html`<p title=${summary}>${summary}</p>`}
      <${Tags} labels=${labels} without=${["alertname", ...without]} />
    </div>
    <div class="alert-tools">
      <${SafeLink} href=${annotations.runbook_url}>Runbook<//>
      ${alert.query && html`<${Link} to="/explore" params=${{ expr: alert.query }} class="button is-quiet">Query<//>`}
      ${!silenced && may("alerts") && html`<${SilenceButton} labels=${labels} onDone=${onDone} />`}
    </div>
  </li>`;
}

// Label sets of silenced alerts, as text.
export const identity = (labels) => JSON.stringify(Object.entries(labels).sort());

// All alerts that rules have raised, worst and newest first.
export function useAlerts() {
  const rules = useFetch("/api/v1/alerts", undefined, POLL, get);
  // Who may only query sees alerts, but not which of them are silenced.
  const managed = useFetch(may("alerts") ? "/api/v2/alerts" : "", undefined, POLL, plain);
  const silenced = new Set(
    (managed.data ?? []).filter((alert) => alert.status?.silencedBy?.length > 0).map((alert) => identity(alert.labels)),
  );
  const alerts = (rules.data?.alerts ?? [])
    .map((alert) => ({ ...alert, silenced: silenced.has(identity(alert.labels)) }))
    .sort(
      (a, b) =>
        Number(a.silenced) - Number(b.silenced) ||
        (ORDER[a.state] ?? 9) - (ORDER[b.state] ?? 9) ||
        WORST.indexOf(levelOfAlert(a.labels, a.state)) - WORST.indexOf(levelOfAlert(b.labels, b.state)) ||
        Date.parse(b.activeAt) - Date.parse(a.activeAt),
    );
  return { alerts, loaded: rules.data !== undefined, error: rules.error, again: () => (rules.again(), managed.again()) };
}

// The list itself; `compact` for a panel or the home page.
export function AlertList({ compact, brief }) {
  const { alerts, loaded, error, again } = useAlerts();
  if (error && !loaded) return html`<${Failure} error=${error} />`;
  if (!loaded) return html`<div class="skeleton"></div>`;
  if (alerts.length === 0) return html`<p class="all-well"><${Icon} name="check" /> No alert is firing or pending.</p>`;
  const shown = compact ? alerts.slice(0, brief ? 6 : 5) : alerts;
  return html`<ul class="alerts">${shown.map((alert) => html`<${AlertLine} key=${identity(alert.labels)} alert=${alert} silenced=${alert.silenced} compact=${compact} onDone=${again} />`)}</ul>
    ${shown.length < alerts.length && html`<p><${Link} to="/alerts">and ${alerts.length - shown.length} more<//></p>`}`;
}
