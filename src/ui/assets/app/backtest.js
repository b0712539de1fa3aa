// A rule over the last 30 days: the server replays it from stored samples to the pages that would have gone out.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, post } from "./api.js";
import { identity, Tags } from "./alert-list.js";
import { duration, stamp } from "./format.js";
import { Failure } from "./page.js";
import { setRange } from "./time.js";

const DAYS = [1, 7, 30];
const DAY = 86400000;
// Long replays look once a minute: what lasts less would not have been seen by people either.
const INTERVAL_MIN = 60;
const SHOWN_MAX = 200;

const text = (seconds) => `${Math.round(seconds)}s`;

// The rules of that name as a rule file; JSON is YAML.
function ruleFile(groups, name) {
  const rules = (group) =>
    group.rules
      .filter((rule) => rule.name === name)
      .map((rule) => ({
        alert: rule.name,
        expr: rule.query,
        for: text(rule.duration),
        ...(rule.keepFiringFor > 0 ? { keep_firing_for: text(rule.keepFiringFor) } : {}),
        labels: rule.labels ?? {},
        annotations: rule.annotations ?? {},
      }));
  return JSON.stringify({ groups: groups.map((group) => ({ name: group.name, interval: text(Math.max(group.interval, INTERVAL_MIN)), rules: rules(group) })).filter((group) => group.rules.length > 0) });
}

// When each alert fired, and until when; still firing at the end is until then.
export function fired(changes, end) {
  const open = new Map();
  const out = [];
  for (const change of changes) {
    const key = identity(change.labels);
    const at = Date.parse(change.at);
    if (change.to === "firing") open.set(key, { labels: change.labels, from: at, to: end, value: change.value });
    else if (open.has(key)) {
      out.push({ ...open.get(key), to: at });
      open.delete(key);
    }
  }
  return [...out, ...open.values()].sort((a, b) => b.from - a.from);
}

function Result({ data, end }) {
  const spans = fired(data.alerts, end);
  const length = spans.reduce((sum, one) => sum + one.to - one.from, 0);
  const zoomTo = ({ from, to }) => setRange(String(from - 36e5), String(Math.min(Date.now(), to + 36e5)));
  return html`<p role="status"><b>${spans.length === 0 ? "It would not have fired." : `It would have fired ${spans.length} ${spans.length === 1 ? "time" : "times"}, ${duration(length)} in all, and sent ${data.pages.length} ${data.pages.length === 1 ? "page" : "pages"}.`}</b> <span class="faint">${data.evaluations.toLocaleString("en")} evaluations</span></p>
    ${data.errors.map((error) => html`<p class="is-error small">${error}</p>`)}
    ${spans.length > 0 && html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">from</th><th scope="col">for</th><th scope="col" class="figure">value</th><th scope="col">labels</th></tr></thead>
      <tbody>${spans.slice(0, SHOWN_MAX).map((one) => html`<tr><td class="nowrap"><button class="linklike" onClick=${() => zoomTo(one)}>${stamp(one.from)}</button></td><td class="nowrap">${duration(one.to - one.from)}</td><td class="figure">${one.value}</td><td><${Tags} labels=${one.labels} without=${["alertname"]} /></td></tr>`)}</tbody></table></div>`}
    ${data.pages.length > 0 && html`<details class="block"><summary><h3>Pages</h3></summary><div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">when</th><th scope="col">to</th><th scope="col">by</th><th scope="col">why</th></tr></thead>
      <tbody>${data.pages.slice(-SHOWN_MAX).reverse().map((page) => html`<tr><td class="nowrap">${stamp(Date.parse(page.at))}</td><td>${page.receiver}</td><td>${page.kind}</td><td>${typeof page.reason === "string" ? page.reason : JSON.stringify(page.reason)}</td></tr>`)}</tbody></table></div></details>`}`;
}

export function Backtest({ name }) {
  const [days, setDays] = useState(30);
  const [state, setState] = useState({});
  useEffect(() => {
    let wanted = true;
    setState({});
    const run = async () => {
      const { groups } = await get("/api/v1/rules", { type: "alert", "rule_name[]": name });
      if (groups.flatMap((group) => group.rules).some((rule) => rule.name === name && (rule.condition || rule.anomaly))) return { special: true };
      const end = Date.now();
      const { data } = await post("/api/v1/backtest", { rules: [{ path: "page.yaml", text: ruleFile(groups, name) }], from: String((end - days * DAY) / 1000), to: String(end / 1000) });
      return { data, end };
    };
    run().then(
      (found) => wanted && setState(found),
      (error) => wanted && setState({ error }),
    );
    return () => {
      wanted = false;
    };
  }, [name, days]);
  const { data, end, error, special } = state;
  if (special) return html`<p class="faint">This rule has more than a query; <code>campanile backtest</code> replays its file.</p>`;
  return html`<p class="tools"><label class="variable">Over the last <select class="button" value=${days} onChange=${(event) => setDays(Number(event.target.value))}>${DAYS.map((one) => html`<option value=${one}>${one === 1 ? "day" : `${one} days`}</option>`)}</select></label></p>
    ${error ? html`<${Failure} error=${error} />` : data ? html`<${Result} data=${data} end=${end} />` : html`<div class="skeleton"></div>`}`;
}
