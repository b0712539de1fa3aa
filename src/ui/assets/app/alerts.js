// Alerts: what fires by state and by route, rules, routes, silences, deliveries.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, may, plain } from "./api.js";
import { AlertLine, identity, Tags, useAlerts } from "./alert-list.js";
import { ago, duration } from "./format.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { Link, place, setParams } from "./router.js";
import { now } from "./time.js";

const POLL = 10000;
const TABS = [
  ["active", "Active"],
  ["rules", "Rules"],
  ["groups", "By route", "alerts"],
  ["routes", "Routes", "alerts"],
  ["silences", "Silences", "alerts"],
  ["deliveries", "Deliveries", "alerts"],
];

// Words that must all occur; `name=value` must be a label.
export function matches(text, values, labels = {}) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const at = word.indexOf("=");
    if (at > 0 && labels[word.slice(0, at)] !== undefined) return String(labels[word.slice(0, at)]).toLowerCase() === word.slice(at + 1);
    return values.some((value) => String(value).toLowerCase().includes(word));
  });
}

const GROUPINGS = [["", "state"], ["alertname", "alert"], ["severity", "severity"], ["instance", "instance"], ["job", "job"], ["team", "team"]];

function Active({ filter }) {
  const { alerts, loaded, error, again } = useAlerts();
  const by = place.value.params.by ?? "";
  if (error && !loaded) return html`<${Failure} error=${error} />`;
  if (!loaded) return html`<div class="skeleton page"></div>`;
  const shown = alerts.filter((alert) => matches(filter, [...Object.values(alert.labels), ...Object.values(alert.annotations ?? {})], alert.labels));
  const groups = new Map();
  for (const alert of shown) {
    const key = by === "" ? (alert.silenced ? "silenced" : alert.state) : (alert.labels[by] ?? "");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(alert);
  }
  return html`<p class="tools"><label class="variable">Grouped by <select class="button" value=${by} onChange=${(event) => setParams({ by: event.target.value })}>${GROUPINGS.map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select></label></p>
    ${shown.length === 0 && html`<p class="empty">${alerts.length === 0 ? "Nothing is firing or pending." : "No alert matches."}</p>`}
    ${[...groups].map(
      ([key, list]) => html`<section class="block" key=${key}><h2>${key || `without ${by}`} <small class="faint">${list.length}</small></h2>
        <ul class="alerts">${list.map((alert) => html`<${AlertLine} key=${identity(alert.labels)} alert=${alert} silenced=${alert.silenced} onDone=${again} />`)}</ul></section>`,
    )}`;
}

export const stateOf = (rule) => {
  const states = new Set((rule.alerts ?? []).map((alert) => alert.state));
  const state = rule.health === "err" ? "error" : states.has("firing") ? "firing" : states.has("pending") ? "pending" : "inactive";
  return { state, level: { error: "bad", firing: "bad", pending: "warn", inactive: "ok" }[state] };
};

function RuleLine({ rule }) {
  const { state, level } = stateOf(rule);
  const count = (wanted) => (rule.alerts ?? []).filter((alert) => alert.state === wanted).length;
  const facts = [rule.duration > 0 && `for ${duration(rule.duration * 1000)}`, count("firing") > 0 && `${count("firing")} firing`, count("pending") > 0 && `${count("pending")} pending`];
  return html`<li><${Link} to=${`/alerts/${encodeURIComponent(rule.name)}`} class="rule-line">
    <span class="badge" data-level=${level}>${state}</span>
    <span class="rule-name"><b>${rule.name}</b>${rule.annotations?.summary && html`<span class="faint cut">${rule.annotations.summary.replace(/\{\{.*?\}\}/g, "…")}</span>`}${rule.lastError && html`<span class="is-error cut">${rule.lastError}</span>`}</span>
    <span class="faint rule-counts">${facts.filter(Boolean).join(" · ")}</span>
    <span class="faint rule-time">${rule.evaluationTime ? `${(rule.evaluationTime * 1000).toFixed(1)} ms` : ""}</span>
  <//></li>`;
}

function Rules({ filter }) {
  const { data, error } = useFetch("/api/v1/rules", { type: "alert" }, POLL, get);
  const active = place.value.params.active === "1";
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const groups = data.groups
    .map((group) => ({
      ...group,
      rules: group.rules.filter(
        (rule) => (!active || stateOf(rule).state !== "inactive") && matches(filter, [rule.name, rule.query, group.name, ...(rule.alerts ?? []).flatMap((alert) => Object.values(alert.labels))], rule.labels),
      ),
    }))
    .filter((group) => group.rules.length > 0);
  return html`<p class="tools"><label class="check"><input type="checkbox" checked=${active} onChange=${(event) => setParams({ active: event.target.checked ? "1" : "" })} /> only active</label></p>
    ${groups.length === 0 && html`<p class="empty">${data.groups.length === 0 ? "No alert rules are loaded." : "No rule matches."}</p>`}
    ${groups.map(
      (group) => html`<section class="block" key=${group.file + group.name}>
        <h2>${group.name} <small class="faint">${group.file} · every ${duration(group.interval * 1000)} · ${group.lastEvaluation && Date.parse(group.lastEvaluation) > 0 ? `evaluated ${ago(Date.parse(group.lastEvaluation), Math.max(now.value, Date.parse(group.lastEvaluation)))} in ${(group.evaluationTime * 1000).toFixed(1)} ms` : "not evaluated yet"}</small></h2>
        <ul class="rule-list">${group.rules.map((rule) => html`<${RuleLine} key=${rule.name + rule.query} rule=${rule} />`)}</ul>
      </section>`,
    )}`;
}

function Groups({ filter }) {
  const { data, error, again } = useFetch("/api/v2/alerts/groups", undefined, POLL, plain);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const groups = data.filter((group) => matches(filter, [group.receiver?.name ?? "", ...Object.values(group.labels), ...group.alerts.flatMap((alert) => Object.values(alert.labels))], group.labels));
  if (groups.length === 0) return html`<p class="empty">${data.length === 0 ? "Nothing is being sent." : "No group matches."}</p>`;
  const receivers = Map.groupBy ? Map.groupBy(groups, (group) => group.receiver?.name ?? "") : new Map([["", groups]]);
  return [...receivers].map(
    ([receiver, list]) => html`<section class="block" key=${receiver}><h2>to ${receiver || "nobody"} <small class="faint">${list.length === 1 ? "1 group" : `${list.length} groups`}</small></h2>
      ${list.map((group) => html`<div class="wall" key=${JSON.stringify(group.labels)}>
        <header>${Object.keys(group.labels).length === 0 ? "All alerts" : html`<${Tags} labels=${group.labels} />`}<small class="faint">${group.alerts.length}</small></header>
        <ul class="alerts">${group.alerts.map((alert) => {
          const off = (alert.status?.silencedBy?.length ?? 0) > 0;
          const held = (alert.status?.inhibitedBy?.length ?? 0) > 0;
          return html`<${AlertLine} key=${alert.fingerprint} alert=${{ ...alert, state: held ? "inhibited" : "firing", activeAt: alert.startsAt }} silenced=${off} without=${Object.keys(group.labels)} onDone=${again} />`;
        })}</ul></div>`)}
    </section>`,
  );
}

// A part of the page that is loaded when it is first shown.
function Later({ load, ...props }) {
  const [Part, setPart] = useState(null);
  useEffect(() => void load().then((part) => setPart(() => part)), []);
  return Part ? html`<${Part} ...${props} />` : html`<div class="skeleton page"></div>`;
}
const LATER = {
  routes: async () => (await import("./routes.js")).Routes,
  silences: async () => (await import("./silences.js")).Silences,
  deliveries: async () => (await import("./deliveries.js")).Deliveries,
};
const loadRule = async () => (await import("./rule.js")).RulePage;

export function AlertsPage() {
  const { path, params } = place.value;
  const rule = path.startsWith("/alerts/") ? decodeURIComponent(path.slice("/alerts/".length)) : "";
  if (rule) return html`<${Later} key=${rule} load=${loadRule} name=${rule} />`;
  const shown = TABS.filter(([, , scope]) => !scope || may(scope));
  const tab = shown.some(([name]) => name === params.tab) ? params.tab : "active";
  const filter = params.filter ?? "";
  return html`<${PageHead} title="Alerts">
      <input type="search" placeholder="Filter: words, label=value" aria-label="Filter" value=${filter} onInput=${(event) => setParams({ filter: event.target.value })} />
    <//>
    <div class="tabs" role="tablist" aria-label="Views of alerts">${shown.map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name })}>${title}</button>`)}</div>
    ${tab === "active" ? html`<${Active} filter=${filter} />` : tab === "rules" ? html`<${Rules} filter=${filter} />` : tab === "groups" ? html`<${Groups} filter=${filter} />` : html`<${Later} key=${tab} load=${LATER[tab]} filter=${filter} />`}`;
}

