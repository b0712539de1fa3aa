// A rule over the last 30 days: how often it would have fired, and when, by asking its query at every step.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, query } from "./api.js";
import { Tags } from "./alert-list.js";
import { duration, stamp } from "./format.js";
import { Failure } from "./page.js";
import { setRange } from "./time.js";

const LENGTH = 30 * 86400;
const STEP = 300;
const SHOWN_MAX = 200;

// Spans in which a series was there at every step for at least `hold` seconds: when they would have fired, and until when.
export function fired(series, hold) {
  const out = [];
  for (const { metric, values } of series) {
    let open;
    const close = () => open && open.to - open.from >= hold && out.push({ labels: metric, from: open.from + hold, to: open.to });
    for (const [at] of values) {
      if (open && at - open.to <= STEP) open.to = at;
      else {
        close();
        open = { from: at, to: at };
      }
    }
    close();
  }
  return out.sort((a, b) => b.from - a.from);
}

export function Backtest({ name }) {
  const [state, setState] = useState({});
  useEffect(() => {
    const abort = new AbortController();
    const run = async () => {
      const { groups } = await get("/api/v1/rules", { type: "alert", "rule_name[]": name }, abort.signal);
      const rules = groups.flatMap((group) => group.rules).filter((rule) => rule.name === name);
      if (rules.some((rule) => rule.condition)) return setState({ conditioned: true });
      const end = Math.floor(Date.now() / 1000 / STEP) * STEP;
      const found = [];
      for (const rule of rules) {
        const { result } = await query("/api/v1/query_range", { query: rule.query, start: end - LENGTH, end, step: STEP }, abort.signal);
        found.push(...fired(result ?? [], rule.duration));
      }
      return setState({ found });
    };
    run().catch((error) => error.name !== "AbortError" && setState({ error }));
    return () => abort.abort();
  }, [name]);
  const { found, error, conditioned } = state;
  if (error) return html`<${Failure} error=${error} />`;
  if (conditioned) return html`<p class="faint">This rule has a condition of its own; <code>campanile backtest</code> replays it exactly.</p>`;
  if (!found) return html`<div class="skeleton"></div>`;
  const length = found.reduce((sum, one) => sum + one.to - one.from, 0);
  return html`<p><b>${found.length === 0 ? "It would not have fired." : `It would have fired ${found.length} ${found.length === 1 ? "time" : "times"}, ${duration(length * 1000) || "briefly"} in all.`}</b> <span class="faint">Its query was asked every 5 minutes; <code>campanile backtest</code> replays it exactly.</span></p>
    ${found.length > 0 && html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">from</th><th scope="col">for</th><th scope="col">labels</th></tr></thead>
      <tbody>${found.slice(0, SHOWN_MAX).map((one) => html`<tr><td class="nowrap"><button class="linklike" onClick=${() => setRange(String((one.from - 3600) * 1000), String(Math.min(Date.now(), (one.to + 3600) * 1000)))}>${stamp(one.from * 1000)}</button></td><td class="nowrap">${one.to > one.from ? duration((one.to - one.from) * 1000) : "a moment"}</td><td><${Tags} labels=${one.labels} without=${["__name__"]} /></td></tr>`)}</tbody></table></div>`}
    ${found.length > SHOWN_MAX && html`<p class="faint small">The newest ${SHOWN_MAX} are shown.</p>`}`;
}
