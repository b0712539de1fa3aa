// Status: is the server well, what does it hold, how was it built and configured.

import { html } from "../vendor/preact.js";
import { get, text } from "./api.js";
import { ago, number, stamp } from "./format.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { Link } from "./router.js";

const POLL = 10000;

const readable = (key) => key.replace(/([a-z0-9])([A-Z])/g, "$1 $2").replace(/_/g, " ").toLowerCase();

function shown(key, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && /time$/i.test(key) && value > 1e12) return stamp(value);
  if (typeof value === "number") return value.toLocaleString("en");
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) return `${stamp(Date.parse(value))} (${ago(Date.parse(value))})`;
  return typeof value === "object" ? JSON.stringify(value) : value;
}

function Facts({ title, path }) {
  const { data, error } = useFetch(path, undefined, POLL);
  return html`<section class="block"><h2>${title}</h2>
    ${error && !data ? html`<p class="faint">${error.status === 404 ? "Not available on this server." : error.message}</p>` : ""}
    <dl class="facts-list">${Object.entries(data ?? {}).filter(([key, value]) => value !== "" && !/^go/i.test(key)).map(([key, value]) => html`<div><dt>${readable(key)}</dt><dd>${shown(key, value)}</dd></div>`)}</dl>
  </section>`;
}

function Ready() {
  const { data } = useFetch("/-/ready", undefined, 2000, text);
  if (!data) return null;
  const ok = data.status === 200;
  return html`<p class="ready" data-level=${ok ? "ok" : "bad"} role="status"><span class="badge" data-level=${ok ? "ok" : "bad"}>${ok ? "ready" : "not ready"}</span> ${data.text}</p>`;
}

const TOPS = [
  ["seriesCountByMetricName", "Series by metric"],
  ["labelValueCountByLabelName", "Values by label"],
  ["seriesCountByLabelValuePair", "Series by label and value"],
  ["memoryInBytesByLabelName", "Bytes by label"],
];

function Head() {
  const { data, error } = useFetch("/api/v1/status/tsdb", { limit: 10 }, 3 * POLL);
  if (error && !data) return html`<section class="block"><h2>Head</h2><p class="faint">${error.status === 404 ? "Not available on this server." : error.message}</p></section>`;
  if (!data) return null;
  return html`<section class="block"><h2>Head</h2>
    <dl class="facts-list is-split">${Object.entries(data.headStats ?? {}).map(([key, value]) => html`<div><dt>${readable(key)}</dt><dd>${shown(key, value)}</dd></div>`)}</dl>
    <div class="tops">${TOPS.filter(([key]) => data[key]?.length > 0).map(([key, title]) => {
      const most = data[key][0].value;
      return html`<div><h3>${title}</h3><ol class="top">${data[key].map(
        ({ name, value }) => html`<li><span class="top-bar" style=${{ width: `${(100 * value) / most}%` }}></span>
          <span class="top-name" title=${name}>${key === "seriesCountByMetricName" ? html`<${Link} to="/explore" params=${{ expr: name, tab: "table" }}>${name}<//>` : name}</span>
          <b>${number(value, key === "memoryInBytesByLabelName" ? "bytes" : "count")}</b></li>`,
      )}</ol></div>`;
    })}</div></section>`;
}

function Targets() {
  const { data, error } = useFetch("/api/v1/targets", { state: "active" }, POLL);
  if (error && !data) return error.status === 404 ? null : html`<${Failure} error=${error} />`;
  const targets = data?.activeTargets ?? [];
  if (targets.length === 0) return null;
  return html`<section class="block"><h2>Targets</h2><div class="panel scroll" tabindex="0"><table class="table">
    <thead><tr><th scope="col">health</th><th scope="col">job</th><th scope="col">instance</th><th scope="col">last scrape</th><th scope="col" class="figure">took</th><th scope="col">error</th></tr></thead>
    <tbody>${targets.map((target) => {
      const level = { up: "ok", down: "bad" }[target.health] ?? "off";
      return html`<tr><td><span class="badge" data-level=${level}>${target.health}</span></td><td>${target.labels?.job}</td><td>${target.labels?.instance}</td>
        <td>${target.lastScrape ? ago(Date.parse(target.lastScrape)) : "–"}</td><td class="figure">${number(target.lastScrapeDuration, "seconds")}</td><td>${target.lastError}</td></tr>`;
    })}</tbody></table></div></section>`;
}

function Config() {
  const { data } = useFetch("/api/v1/status/config");
  if (!data?.yaml) return null;
  return html`<section class="block"><h2>Configuration</h2><pre class="config" tabindex="0">${data.yaml}</pre></section>`;
}

export const StatusPage = () => html`<${PageHead} title="Status" />
  <${Ready} />
  <div class="columns">
    <${Facts} title="Process" path="/api/v1/status/runtimeinfo" />
    <${Facts} title="Build" path="/api/v1/status/buildinfo" />
  </div>
  <${Targets} />
  <${Head} />
  <${Config} />
  <details class="block"><summary><h2>Flags</h2></summary><${Facts} title="" path="/api/v1/status/flags" /></details>`;
