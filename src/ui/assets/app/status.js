// Status: is the server well, who sends, what does it hold, what are its limits, how was it built and configured.

import { html } from "../vendor/preact.js";
import { text } from "./api.js";
import { CopyButton } from "./dialog.js";
import { ago, number, stamp } from "./format.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { Link, place, setParams } from "./router.js";

const POLL = 10000;
const TABS = [["", "Server"], ["sources", "Senders"], ["targets", "Targets"], ["cardinality", "Cardinality"], ["limits", "Limits"], ["config", "Configuration"]];

const ACRONYMS = { CWD: "working directory", GOMAXPROCS: "threads" };
const readable = (key) => ACRONYMS[key] ?? key.replace(/([a-z0-9])([A-Z])/g, "$1 $2").replace(/_/g, " ").toLowerCase();

function shown(key, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && /time$/i.test(key) && value > 1e12) return stamp(value);
  if (typeof value === "number") return value.toLocaleString("en");
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) return `${stamp(Date.parse(value))} (${ago(Date.parse(value))})`;
  return typeof value === "object" ? JSON.stringify(value) : value;
}

const trouble = (error) => (error.status === 404 ? "Not available on this server." : error.status === 403 ? "Not for this token." : error.message);

function Facts({ title, path, hide = /^go(?!max)/i }) {
  const { data, error } = useFetch(path, undefined, POLL);
  return html`<section class="block">${title && html`<h2>${title}</h2>`}
    ${error && !data ? html`<p class="faint">${trouble(error)}</p>` : ""}
    <dl class="facts-list">${Object.entries(data ?? {}).filter(([key, value]) => value !== "" && !hide.test(key) && !/^(goroutine|GOMEM|GOGC|GODEBUG)/.test(key)).map(([key, value]) => html`<div><dt>${title ? readable(key) : key}</dt><dd>${shown(key, value)}</dd></div>`)}</dl>
  </section>`;
}

function Ready() {
  const { data } = useFetch("/-/ready", undefined, 2000, text);
  if (!data) return null;
  const ok = data.status === 200;
  return html`<p class="ready" data-level=${ok ? "ok" : "bad"} role="status"><span class="badge" data-level=${ok ? "ok" : "bad"}>${ok ? "ready" : "not ready"}</span> ${data.text}</p>`;
}

function Notices() {
  const { data } = useFetch("/api/v1/notifications", undefined, POLL);
  return (data ?? []).map((notice) => html`<p class="note" data-level="warn" role="alert">${notice.text} <span class="faint">${stamp(Date.parse(notice.date))}</span></p>`);
}

function Server() {
  const { data } = useFetch("/api/v1/status/tsdb", { limit: 1 }, POLL);
  return html`<${Ready} /><${Notices} />
    <div class="columns">
      <${Facts} title="Process" path="/api/v1/status/runtimeinfo" />
      <div><${Facts} title="Build" path="/api/v1/status/buildinfo" />
      ${data && html`<section class="block"><h2>Head</h2><dl class="facts-list">${Object.entries(data.headStats ?? {}).map(([key, value]) => html`<div><dt>${readable(key)}</dt><dd>${shown(key, value)}</dd></div>`)}</dl></section>`}</div>
    </div>`;
}

const TOPS = [
  ["seriesCountByMetricName", "Series by metric"],
  ["labelValueCountByLabelName", "Values by label"],
  ["seriesCountByLabelValuePair", "Series by label and value"],
  ["memoryInBytesByLabelName", "Bytes by label"],
];

function Cardinality() {
  const { data, error } = useFetch("/api/v1/status/tsdb", { limit: 20 }, 3 * POLL);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const all = data.headStats?.numSeries ?? 0;
  const name = (key, text) => {
    if (key === "seriesCountByMetricName") return html`<${Link} to="/explore" params=${{ tab: "metrics", metric: text, find: text }}>${text}<//>`;
    if (key === "seriesCountByLabelValuePair") {
      const at = text.indexOf("=");
      return html`<${Link} to="/explore" params=${{ tab: "table", expr: `topk(100, count by (__name__) ({${text.slice(0, at)}=${JSON.stringify(text.slice(at + 1))}}))` }}>${text}<//>`;
    }
    return text;
  };
  return html`<p class="lead"><b>${all.toLocaleString("en")}</b> series in the head, ${number(data.headStats?.numLabelPairs, "count")} distinct label pairs</p>
    <div class="tops">${TOPS.filter(([key]) => data[key]?.length > 0).map(([key, title]) => {
      const most = data[key][0].value;
      const share = key === "seriesCountByMetricName" || key === "seriesCountByLabelValuePair";
      return html`<section class="panel is-plain"><h3>${title}</h3><ol class="top">${data[key].map(
        ({ name: text, value }) => html`<li><span class="top-bar" style=${{ width: `${(100 * value) / most}%` }}></span>
          <span class="top-name" title=${text}>${name(key, text)}</span>
          <b>${number(value, key === "memoryInBytesByLabelName" ? "bytes" : "count")}${share && all > 0 && html` <small class="faint">${((100 * value) / all).toFixed(value / all < 0.095 ? 1 : 0)}\u202f%</small>`}</b></li>`,
      )}</ol></section>`;
    })}</div>`;
}

function Sources() {
  const { data, error } = useFetch("/api/v1/sources", undefined, POLL);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  if (data.sources.length === 0) return html`<p class="empty">Nobody has sent anything yet.</p>`;
  const refused = (source) => Object.entries(source.refused ?? {}).filter(([, many]) => many > 0);
  return html`<div class="panel scroll" tabindex="0"><table class="table">
    <thead><tr><th scope="col">sender</th><th scope="col">agent</th><th scope="col">by</th><th scope="col">last seen</th><th scope="col" class="figure">active series</th><th scope="col" class="figure">samples</th><th scope="col" class="figure">requests</th><th scope="col">refused</th></tr></thead>
    <tbody>${data.sources.map((source) => {
      const silent = Date.now() - source.last_seen > 300000;
      return html`<tr><td><b>${source.source}</b></td><td>${source.agent}</td><td>${source.protocol}</td>
        <td class="nowrap"><span class="badge" data-level=${silent ? "warn" : "ok"}>${ago(source.last_seen)}</span></td>
        <td class="figure">${number(source.active_series, "count")}</td><td class="figure">${number(source.samples, "count")}</td><td class="figure">${number(source.requests, "count")}</td>
        <td>${refused(source).length === 0 ? html`<span class="faint">nothing</span>` : refused(source).map(([reason, many]) => html`<span class="tag">${reason}: ${number(many, "count")}</span> `)}
          ${source.left_out > 0 && html`<span class="faint small">${number(source.left_out, "count")} left out by rules</span>`}
          ${source.last_error && html`<div class="is-error small">${source.last_error}${source.last_error_at ? ` (${ago(source.last_error_at)})` : ""}</div>`}</td></tr>`;
    })}</tbody></table></div>`;
}

function Targets() {
  const { data, error } = useFetch("/api/v1/targets", undefined, POLL);
  const find = (place.value.params.find ?? "").toLowerCase();
  const health = place.value.params.health ?? "";
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const all = data.activeTargets ?? [];
  const targets = all.filter((target) => (!health || target.health === health) && JSON.stringify([target.labels, target.scrapeUrl, target.lastError]).toLowerCase().includes(find));
  const dropped = Object.values(data.droppedTargetCounts ?? {}).reduce((sum, count) => sum + count, 0);
  return html`<p class="tools"><input type="search" placeholder="Filter" aria-label="Filter targets" value=${find} onInput=${(event) => setParams({ find: event.target.value })} />
      <label class="variable">Health <select class="button" value=${health} onChange=${(event) => setParams({ health: event.target.value })}>${[["", `all ${all.length}`], ["up", "up"], ["down", "down"], ["unknown", "unknown"]].map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select></label>
      ${dropped > 0 && html`<span class="faint">${dropped} dropped by relabelling</span>`}</p>
    ${targets.length === 0 ? html`<p class="empty">${all.length === 0 ? "The built-in agent scrapes nothing." : "No target matches."}</p>` : html`<div class="panel scroll" tabindex="0"><table class="table">
    <thead><tr><th scope="col">health</th><th scope="col">job</th><th scope="col">instance</th><th scope="col">address</th><th scope="col">last scrape</th><th scope="col" class="figure">took</th><th scope="col">error</th></tr></thead>
    <tbody>${targets.slice(0, 1000).map((target) => {
      const level = { up: "ok", down: "bad" }[target.health] ?? "off";
      return html`<tr><td><span class="badge" data-level=${level}>${target.health}</span></td><td>${target.labels?.job}</td><td>${target.labels?.instance}</td><td class="faint">${target.scrapeUrl}</td>
        <td class="nowrap">${target.lastScrape ? `${ago(Date.parse(target.lastScrape))}` : "–"} <small class="faint">every ${target.scrapeInterval}</small></td><td class="figure">${number(target.lastScrapeDuration, "seconds")}</td><td class="is-error">${target.lastError}</td></tr>`;
    })}</tbody></table></div>`}`;
}

// What each limit refused, from the metrics that the server shows of itself.
const refusals = async () => {
  const { text: exposition } = await text("/metrics");
  const found = {};
  for (const [, name, count] of exposition.matchAll(/^campanile_limit_refused_total\{limit="([^"]*)"\} (\S+)/gm)) found[name] = Number(count);
  return found;
};

function limitValue(name, value) {
  const count = Number(value);
  if (value === "0" && /concurrent|source_series/.test(name)) return /source/.test(name) ? "none" : "by cores";
  if (!Number.isFinite(count)) return value;
  return /bytes/.test(name) ? number(count, "bytes") : count.toLocaleString("en");
}

function Limits() {
  const { data, error } = useFetch("/api/v1/status/limits");
  const refused = useFetch("/metrics", undefined, POLL, refusals);
  if (error) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const counts = refused.data ?? {};
  const names = [...new Set([...Object.keys(data), ...Object.keys(counts)])].sort((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0) || a.localeCompare(b));
  return html`<p class="faint">Keys below <code>limits:</code> in the configuration. What went over one was answered with an error that says so.</p>
    <div class="panel scroll" tabindex="0"><table class="table is-half"><thead><tr><th scope="col">limit</th><th scope="col" class="figure">value</th><th scope="col" class="figure">refused since the start</th></tr></thead>
    <tbody>${names.map((name) => html`<tr><td><code>${name}</code></td><td class="figure">${data[name] === undefined ? "–" : limitValue(name, data[name])}</td><td class="figure" data-level=${counts[name] > 0 ? "warn" : undefined}>${refused.error ? "–" : number(counts[name] ?? 0, "count")}</td></tr>`)}</tbody></table></div>`;
}

function Config() {
  const { data, error } = useFetch("/api/v1/status/config");
  return html`<div class="columns is-uneven"><section class="block"><h2>In force <small class="faint">secrets are masked</small></h2>${error ? html`<p class="faint">${trouble(error)}</p>` : data?.yaml ? html`<pre class="config" tabindex="0">${data.yaml}</pre><p class="spaced"><${CopyButton} text=${data.yaml} /></p>` : html`<p class="faint">No configuration file: everything has its default.</p>`}</section>
    <section class="block"><h2>Flags</h2><${Facts} title="" path="/api/v1/status/flags" hide=${/^$/} /></section></div>`;
}

const PARTS = { "": Server, sources: Sources, targets: Targets, cardinality: Cardinality, limits: Limits, config: Config };

export function StatusPage() {
  const tab = PARTS[place.value.params.tab] ? place.value.params.tab : "";
  const Part = PARTS[tab];
  return html`<${PageHead} title="Status" />
    <div class="tabs" role="tablist" aria-label="Parts of the status">${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name, find: undefined, health: undefined })}>${title}</button>`)}</div>
    <${Part} key=${tab} />`;
}

