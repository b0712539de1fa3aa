// Alerts: by rule, by group as they are sent, and silences.

import { html, useState } from "../vendor/preact.js";
import { get, plain, remove } from "./api.js";
import { AlertLine, identity, Tags, useAlerts } from "./alert-list.js";
import { ago, duration } from "./format.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { Link, place, setParams } from "./router.js";
import { now } from "./time.js";

const POLL = 10000;
const TABS = [["rules", "Rules"], ["groups", "Notifications"], ["silences", "Silences"]];

function matches(text, values) {
  const wanted = text.toLowerCase();
  return wanted === "" || values.some((value) => String(value).toLowerCase().includes(wanted));
}

function RuleLine({ rule, silenced, again }) {
  const counts = { firing: 0, pending: 0 };
  for (const alert of rule.alerts ?? []) counts[alert.state] = (counts[alert.state] ?? 0) + 1;
  const state = rule.health === "err" ? "error" : counts.firing > 0 ? "firing" : counts.pending > 0 ? "pending" : "inactive";
  const level = { error: "bad", firing: "bad", pending: "warn", inactive: "ok" }[state];
  return html`<details class="rule" data-level=${level} open=${state !== "inactive"}>
    <summary>
      <span class="badge" data-level=${level}>${state}</span>
      <b>${rule.name}</b>
      <span class="faint">${rule.duration > 0 ? `for ${duration(rule.duration * 1000)}` : ""}</span>
      <span class="rule-counts faint">${counts.firing > 0 ? `${counts.firing} firing` : ""}${counts.pending > 0 ? ` ${counts.pending} pending` : ""}</span>
    </summary>
    <div class="rule-body">
      <${Link} to="/explore" params=${{ expr: rule.query }} class="code-link"><code>${rule.query}</code><//>
      ${rule.lastError && html`<p class="is-error" role="alert">${rule.lastError}</p>`}
      ${rule.annotations?.summary && html`<p class="faint">${rule.annotations.summary}</p>`}
      <p class="faint small">evaluated ${rule.lastEvaluation ? ago(Date.parse(rule.lastEvaluation), Math.max(now.value, Date.parse(rule.lastEvaluation))) : "never"}${rule.evaluationTime ? ` in ${(rule.evaluationTime * 1000).toFixed(1)} ms` : ""} <${Tags} labels=${rule.labels ?? {}} /></p>
      <ul class="alerts">${(rule.alerts ?? []).map((alert) => html`<${AlertLine} key=${identity(alert.labels)} alert=${alert} silenced=${silenced.has(identity(alert.labels))} onDone=${again} />`)}</ul>
    </div>
  </details>`;
}

function Rules({ filter, active }) {
  const { data, error, again } = useFetch("/api/v1/rules", { type: "alert" }, POLL, get);
  const { alerts } = useAlerts();
  const silenced = new Set(alerts.filter((alert) => alert.silenced).map((alert) => identity(alert.labels)));
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const groups = data.groups
    .map((group) => ({
      ...group,
      rules: group.rules.filter(
        (rule) =>
          rule.type !== "recording" &&
          (!active || rule.state !== "inactive" || rule.health === "err") &&
          matches(filter, [rule.name, rule.query, group.name, ...(rule.alerts ?? []).flatMap((alert) => Object.values(alert.labels))]),
      ),
    }))
    .filter((group) => group.rules.length > 0);
  if (groups.length === 0) return html`<p class="empty">${data.groups.length === 0 ? "No alert rules are loaded." : "No rule matches."}</p>`;
  return groups.map(
    (group) => html`<section class="block" key=${group.file + group.name}>
      <h2>${group.name} <small class="faint">${group.file} · every ${duration(group.interval * 1000)}</small></h2>
      ${group.rules.map((rule) => html`<${RuleLine} key=${rule.name + rule.query} rule=${rule} silenced=${silenced} again=${again} />`)}
    </section>`,
  );
}

function Groups({ filter }) {
  const { data, error, again } = useFetch("/api/v2/alerts/groups", undefined, POLL, plain);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const groups = data.filter((group) => matches(filter, [...Object.values(group.labels), ...group.alerts.flatMap((alert) => Object.values(alert.labels))]));
  if (groups.length === 0) return html`<p class="empty">Nothing is being sent.</p>`;
  return groups.map(
    (group) => html`<section class="block" key=${JSON.stringify([group.receiver, group.labels])}>
      <h2>${Object.keys(group.labels).length === 0 ? "All alerts" : html`<${Tags} labels=${group.labels} />`} <small class="faint">to ${group.receiver?.name}</small></h2>
      <ul class="alerts">${group.alerts.map((alert) => {
        const state = alert.status?.state === "suppressed" ? "suppressed" : "firing";
        const off = (alert.status?.silencedBy?.length ?? 0) > 0;
        return html`<${AlertLine} key=${alert.fingerprint} alert=${{ ...alert, state, activeAt: alert.startsAt }} silenced=${off} onDone=${again} />`;
      })}</ul>
    </section>`,
  );
}

const operator = ({ isRegex, isEqual = true }) => (isRegex ? (isEqual ? "=~" : "!~") : isEqual ? "=" : "!=");

function Silences({ filter }) {
  const { data, error, again } = useFetch("/api/v2/silences", undefined, POLL, plain);
  const [failed, setFailed] = useState(null);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const rank = { active: 0, pending: 1, expired: 2 };
  const shown = data
    .filter((silence) => matches(filter, [silence.comment, silence.createdBy, ...silence.matchers.flatMap((one) => [one.name, one.value])]))
    .sort((a, b) => rank[a.status.state] - rank[b.status.state] || Date.parse(b.endsAt) - Date.parse(a.endsAt));
  const expire = async (id) => {
    try {
      await remove(`/api/v2/silence/${encodeURIComponent(id)}`);
      setFailed(null);
      again();
    } catch (problem) {
      setFailed(problem);
    }
  };
  if (shown.length === 0) return html`<p class="empty">No silences. Make one from an alert, with its Silence button.</p>`;
  return html`${failed && html`<${Failure} error=${failed} />`}
    <ul class="alerts">${shown.map((silence) => {
      const { state } = silence.status;
      return html`<li class="alert" key=${silence.id} data-level=${state === "active" ? "ok" : "off"}>
        <div class="alert-main">
          <div class="alert-head"><span class="badge" data-level=${state === "active" ? "ok" : "off"}>${state}</span>
            <span>${state === "expired" ? "ended" : "ends"} ${ago(Date.parse(silence.endsAt), Date.now())}</span>
            <span class="faint">by ${silence.createdBy}</span></div>
          <p>${silence.comment}</p>
          <span class="tags">${silence.matchers.map((one) => html`<span class="tag"><span class="faint">${one.name}${operator(one)}</span>${one.value}</span>`)}</span>
        </div>
        <div class="alert-tools">${state !== "expired" && html`<button class="button is-quiet" onClick=${() => expire(silence.id)}>End now</button>`}</div>
      </li>`;
    })}</ul>`;
}

export function AlertsPage() {
  const { params } = place.value;
  const tab = params.tab ?? "rules";
  const filter = params.filter ?? "";
  const active = params.active === "1";
  return html`<${PageHead} title="Alerts">
      <input type="search" placeholder="Filter" aria-label="Filter" value=${filter} onInput=${(event) => setParams({ filter: event.target.value })} />
      ${tab === "rules" && html`<label class="check"><input type="checkbox" checked=${active} onChange=${(event) => setParams({ active: event.target.checked ? "1" : "" })} /> only active</label>`}
    <//>
    <div class="tabs" role="tablist">${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name })}>${title}</button>`)}</div>
    ${tab === "groups" ? html`<${Groups} filter=${filter} />` : tab === "silences" ? html`<${Silences} filter=${filter} />` : html`<${Rules} filter=${filter} active=${active} />`}`;
}
