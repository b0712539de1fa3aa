// Ad clicks: what was counted, for all ads or one; what comes in now; how the store of events is.

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { get, may } from "./api.js";
import { Chart, columns } from "./chart.js";
import { download } from "./dialog.js";
import { duration, number, stamp } from "./format.js";
import { Legend } from "./legend.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { csv } from "./panels.js";
import { Link, place, setParams } from "./router.js";
import { asked, compare, compareOffset, now, range, refresh, span } from "./time.js";
import { TimePicker } from "./timepicker.js";
import { parts, zoneName } from "./zone.js";

const TABS = [["", "Ads"], ["live", "Live"], ["data", "Data"]];
const MINUTE = 60000;
const HOUR = 3600000;
const TOP = 20;
const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const pathOf = (ad, what) => `/api/v1/ads/${encodeURIComponent(ad)}/${what}`;

// Whole steps: a range in minutes is counted from minute to minute.
function whole({ from, to }) {
  const length = to - from;
  const step = length <= 6 * HOUR ? MINUTE : length <= 60 * 24 * HOUR ? HOUR : 24 * HOUR;
  return { from: Math.floor(from / MINUTE) * MINUTE, to: Math.ceil(to / MINUTE) * MINUTE, step, word: step === MINUTE ? "1m" : step === HOUR ? "1h" : "1d" };
}

// What is counted of an ad (`*` for all): totals, their course, and the time before when that is asked for.
function useCounts(ad) {
  const [state, setState] = useState({});
  const window = whole(span.value);
  const key = JSON.stringify([ad, window, compare.value, asked.value]);
  useEffect(() => {
    const abort = new AbortController();
    const { from, to, word } = window;
    const ask = (what, params) => get(pathOf(ad, what), params, abort.signal);
    const offset = compareOffset(span.peek());
    const load = async () => {
      const [net, gross, uniques, before] = await Promise.all([
        ask("aggregated_count", { from, to, step: word, tz: zoneName() }),
        ask("aggregated_count", { from, to, step: word, tz: zoneName(), traffic: "gross" }),
        ask("uniques", { from, to }).catch((error) => (error.name === "AbortError" ? Promise.reject(error) : null)),
        offset > 0 ? ask("aggregated_count", { from: from - offset, to: to - offset, step: word, tz: zoneName() }) : null,
      ]);
      setState({ net, gross, uniques, before, offset, window });
    };
    load().catch((error) => error.name !== "AbortError" && setState((old) => ({ ...old, error })));
    return () => abort.abort();
  }, [key]);
  return state;
}

function Figure({ title, value, hint, before, after }) {
  const change = before > 0 && after !== undefined ? (after - before) / before : undefined;
  return html`<div class="tile is-still"><span class="tile-title">${title}</span><span class="tile-value">${value}</span>
    <span class="tile-hint">${change === undefined ? hint : `${change >= 0 ? "+" : "−"}${Math.abs(100 * change).toFixed(Math.abs(change) < 0.1 ? 1 : 0)}\u202f% against before`}</span></div>`;
}

function Figures({ state }) {
  const { net, uniques, before } = state;
  const totals = net.totals;
  const old = before?.totals;
  const invalid = totals.gross_clicks - totals.net_clicks;
  const share = (value) => (value === null || value === undefined ? "–" : number(value, "ratio", 2));
  return html`<div class="tiles is-clicks">
    <${Figure} title="Net clicks" value=${number(totals.net_clicks, "count")} hint=${net.state === "open" ? "the newest minutes are open" : "all minutes are closed"} before=${old?.net_clicks} after=${totals.net_clicks} />
    <${Figure} title="Gross clicks" value=${number(totals.gross_clicks, "count")} hint="bots and invalid ones too" before=${old?.gross_clicks} after=${totals.gross_clicks} />
    <${Figure} title="Invalid" value=${totals.gross_clicks > 0 ? number(invalid / totals.gross_clicks, "ratio", 2) : "–"} hint=${`${number(invalid, "count")} clicks`} />
    <${Figure} title="CTR" value=${share(totals.ctr)} hint=${`of ${number(totals.impressions, "count")} impressions`} before=${old?.ctr ?? 0} after=${totals.ctr ?? undefined} />
    <${Figure} title="Conversions" value=${number(totals.conversions, "count")} hint=${totals.cvr === null ? "none yet" : `${share(totals.cvr)} of net clicks`} before=${old?.conversions} after=${totals.conversions} />
    <${Figure} title="Spend" value=${number(totals.spend)} hint=${totals.net_clicks > 0 ? `${number(totals.spend / totals.net_clicks)} a net click` : "net"} before=${old?.spend} after=${totals.spend} />
    <${Figure} title="Unique people" value=${uniques ? number(uniques.uniques, "count") : "–"} hint=${uniques ? (uniques.exact ? "exact" : "estimated, within 1 %") : "not answered"} />
    <${Figure} title="Late" value=${number(totals.late, "count")} hint="came after their minute was closed" />
  </div>`;
}

const valued = (series) => (series ?? []).map(([at, count]) => [at / 1000, count]);

// Net and invalid on each other; open minutes are hatched, corrected ones marked.
function Course({ state, title }) {
  const [hidden, setHidden] = useState(new Set());
  const { net, gross, before, offset, window } = state;
  const series = useMemo(() => {
    const grossAt = new Map(gross.series ?? []);
    const invalid = (net.series ?? []).map(([at, count]) => [at / 1000, Math.max(0, (grossAt.get(at) ?? count) - count)]);
    const out = [{ name: "net", values: valued(net.series) }, { name: "invalid", values: invalid }];
    if (before) out.push({ name: "net (before)", ghost: true, values: (before.series ?? []).map(([at, count]) => [(at + offset) / 1000, count]) });
    return out;
  }, [net, gross, before]);
  const data = useMemo(() => columns(series, window.from, window.to - window.step, window.step), [series]);
  const marks = useMemo(() => {
    const out = [];
    for (const [at, word, version] of net.states ?? []) {
      if (word === "open") out.push({ from: at - window.step / 2, to: at + window.step / 2, hatch: true, title: "open: more may come" });
      else if (version > 1) out.push({ from: at - window.step / 2, to: at + window.step / 2, level: "warn", faint: true, title: `corrected: version ${version}` });
    }
    return out;
  }, [net]);
  const names = series.map((one) => one.name);
  const ghosts = series.map((one) => Boolean(one.ghost));
  const panel = { title, unit: "count", stack: true, min: 0 };
  const save = () => download("clicks.csv", "text/csv", csv(series));
  return html`<section class="panel is-wide"><header class="panel-head"><h3>Clicks by ${{ "1m": "minute", "1h": "hour", "1d": "day" }[window.word]} <small class="faint">hatched: open, marked: corrected</small></h3><button class="button is-quiet" onClick=${save}>CSV</button></header>
    <${Chart} panel=${panel} data=${data} names=${names} ghosts=${ghosts} hidden=${hidden} marks=${marks} height=${260} label=${`${title}: net and invalid clicks over time`} />
    <${Legend} names=${names} data=${data} unit="count" hidden=${hidden} ghosts=${ghosts} onHidden=${setHidden} />
  </section>`;
}

function Top() {
  const { from, to } = whole(span.value);
  const [by, setBy] = useState("clicks");
  const { data, error } = useFetch("/api/v1/ads/popular_ads", { from, to, count: TOP, metric: by });
  const ads = data?.ads ?? [];
  const most = Math.max(1e-9, ...ads.map((ad) => ad.count));
  const sum = ads.reduce((all, ad) => all + ad.count, 0);
  return html`<section class="panel" data-width="6"><header class="panel-head"><h3>Top ads</h3>
      <select class="button is-small" aria-label="Ranked by" value=${by} onChange=${(event) => setBy(event.target.value)}>${["clicks", "impressions", "conversions", "spend", "revenue"].map((one) => html`<option>${one}</option>`)}</select></header>
    ${error ? html`<p class="panel-note is-error">${error.message}</p>` : !data ? html`<div class="skeleton"></div>` : ads.length === 0 ? html`<p class="panel-note">Nothing was counted in this range.</p>` : html`<ol class="top is-tall scroll">${ads.map(
      (ad, i) => html`<li key=${ad.ad_id}><span class="top-bar" style=${{ width: `${(100 * ad.count) / most}%` }}></span><span class="top-name"><span class="faint">${i + 1}.</span> <${Link} to=${`/clicks/ad/${encodeURIComponent(ad.ad_id)}`}>${ad.ad_id}<//></span><b>${number(ad.count, by === "spend" || by === "revenue" ? "" : "count")} <small class="faint">${number(ad.count / sum, "ratio", 1)}</small></b></li>`,
    )}</ol>`}
  </section>`;
}

// Four weeks, each hour of the week as dark as it had clicks.
function Week({ ad }) {
  const end = Math.floor(now.value / HOUR) * HOUR;
  const { data, error } = useFetch(pathOf(ad, "aggregated_count"), { from: end - 28 * 24 * HOUR, to: end, step: "1h", tz: zoneName() });
  const cells = Array.from({ length: 7 }, () => new Array(24).fill(0));
  for (const [at, count] of data?.series ?? []) {
    const { weekday, hour } = parts(at);
    cells[(weekday + 6) % 7][hour] += count;
  }
  const most = Math.max(1, ...cells.flat());
  return html`<section class="panel" data-width="6"><header class="panel-head"><h3>Hour and weekday <small class="faint">last 4 weeks, ${zoneName()}</small></h3></header>
    ${error ? html`<p class="panel-note is-error">${error.message}</p>` : !data ? html`<div class="skeleton"></div>` : html`<div class="scroll"><table class="week"><thead><tr><th scope="col"><span class="visually-hidden">day</span></th>${Array.from({ length: 24 }, (_, hour) => html`<th scope="col">${hour % 3 === 0 ? hour : html`<span class="visually-hidden">${hour}</span>`}</th>`)}</tr></thead>
      <tbody>${cells.map((row, day) => html`<tr><th scope="row">${WEEKDAYS[day]}</th>${row.map((count, hour) => html`<td title=${`${WEEKDAYS[day]} ${hour}:00: ${number(count, "count")}`}><i style=${{ opacity: count === 0 ? 0 : 0.1 + 0.9 * Math.sqrt(count / most) }}></i><span class="visually-hidden">${count}</span></td>`)}</tr>`)}</tbody></table></div>`}
  </section>`;
}

// Each minute with what was counted, and whether that may still change.
function Ledger({ state, ad }) {
  const { net, gross, window } = state;
  const grossAt = new Map(gross.series ?? []);
  const rows = [...(net.states ?? [])].reverse().slice(0, 500);
  const netAt = new Map(net.series ?? []);
  return html`<section class="block"><h2>Ledger</h2>
    <p class="tools"><${Later} load=${loadProve} ad=${ad} from=${window.from} to=${window.to} /> <span class="faint small">from the raw events</span></p>
    ${rows.length === 0 ? html`<p class="faint">No minute of this range has an event.</p>` : html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">${{ "1m": "minute", "1h": "hour", "1d": "day" }[window.word]}</th><th scope="col" class="figure">gross</th><th scope="col" class="figure">invalid</th><th scope="col" class="figure">net</th><th scope="col">state</th><th scope="col" class="figure">version</th></tr></thead>
      <tbody>${rows.map(([at, word, version]) => {
        const [all, good] = [grossAt.get(at) ?? 0, netAt.get(at) ?? 0];
        return html`<tr><td class="nowrap">${stamp(at).slice(0, 16)}</td><td class="figure">${all.toLocaleString("en")}</td><td class="figure">${(all - good).toLocaleString("en")}</td><td class="figure"><b>${good.toLocaleString("en")}</b></td><td><span class="badge" data-level=${word === "open" ? "warn" : "ok"}>${word}</span></td><td class="figure">${version}${version > 1 ? html` <small class="faint">corrected</small>` : ""}</td></tr>`;
      })}</tbody></table></div>`}</section>`;
}

function Calculator({ ad }) {
  const [minutes, setMinutes] = useState("5");
  const length = Number(minutes);
  const fine = Number.isInteger(length) && length > 0 && length <= 43200;
  const to = Math.floor(now.value / MINUTE) * MINUTE;
  const { data, error } = useFetch(fine ? pathOf(ad, "aggregated_count") : "", { from: to - length * MINUTE, to });
  return html`<p class="tools">Net clicks of the last <input class="is-short" inputmode="numeric" aria-label="Minutes" aria-invalid=${!fine} value=${minutes} onInput=${(event) => setMinutes(event.target.value)} /> minutes: <b role="status">${error ? error.message : data ? data.count.toLocaleString("en") : "…"}</b></p>`;
}

function Body({ ad, title }) {
  const state = useCounts(ad);
  if (state.error && !state.net) return html`<${Failure} error=${state.error} />`;
  if (!state.net) return html`<div class="skeleton page"></div>`;
  return html`<${Figures} state=${state} />
    <${Course} state=${state} title=${title} />
    ${ad === "*" ? html`<div class="grid is-block"><${Top} /><${Week} ad=${ad} /></div>` : html`<${Calculator} ad=${ad} /><div class="grid is-block"><${Week} ad=${ad} /></div><${Ledger} state=${state} ad=${ad} />`}`;
}

// What to do where no clicks are counted yet.
function NotHere() {
  const event = '{"events": [{"event_id": "c-1", "type": "click", "ts": 1795331000000, "ad_id": "ad-7", "price": 0.25}]}';
  return html`<section class="panel is-wide"><h2>This server counts no clicks</h2>
    <p class="spaced">Where it does, they are sent like this, and are here within a second:</p><pre class="config">POST /collect${"\n"}Content-Type: application/json${"\n\n"}${event}</pre></section>`;
}

function Later({ load, ...props }) {
  const [Part, setPart] = useState(null);
  useEffect(() => void load().then((part) => setPart(() => part)), []);
  return Part ? html`<${Part} ...${props} />` : html`<div class="skeleton page"></div>`;
}
const loadProve = async () => (await import("./clicks-audit.js")).Prove;
const LATER = { live: async () => (await import("./clicks-live.js")).Live, data: async () => (await import("./clicks-data.js")).Data };

export function ClicksPage() {
  const { path, params } = place.value;
  const ad = path.startsWith("/clicks/ad/") ? decodeURIComponent(path.slice("/clicks/ad/".length)) : "";
  const status = useFetch(may("query") ? "/api/v1/events/status" : "", undefined, 10000);
  useEffect(() => {
    refresh.value = 15000;
    if (!place.peek().params.from && range.peek().from === "now-1h") range.value = { from: "now-6h", to: "now" };
  }, []);
  const tab = LATER[params.tab] ? params.tab : "";
  const behind = status.data ? Date.now() - status.data.watermark : 0;
  const hint = status.data ? `Counted up to ${stamp(status.data.watermark, true)}, ${duration(Math.max(0, behind))} behind.` : "";
  if (status.error?.status === 404) return html`<${PageHead} title="Clicks" /><${NotHere} />`;
  if (status.error && !status.data) return html`<${PageHead} title="Clicks" /><${Failure} error=${status.error} />`;
  if (ad) return html`<p class="crumbs"><${Link} to="/clicks">All ads<//></p><${PageHead} title=${ad} hint=${hint}><${TimePicker} comparable=${true} /><//><${Body} key=${ad} ad=${ad} title=${ad} />`;
  return html`<${PageHead} title="Clicks" hint=${hint}>${tab === "" && html`<${TimePicker} comparable=${true} />`}<//>
    ${status.data?.refusing && html`<p class="note" data-level="warn" role="alert">Events are refused now: ${String(status.data.refusing)}</p>`}
    <div class="tabs" role="tablist" aria-label="Parts of clicks">${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setParams({ tab: name })}>${title}</button>`)}</div>
    ${tab === "" ? html`<${Body} ad="*" title="All ads" />` : html`<${Later} key=${tab} load=${LATER[tab]} status=${status.data} />`}`;
}
