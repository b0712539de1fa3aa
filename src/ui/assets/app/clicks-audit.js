// Counts under examination: the calendar of reconciliations, a recalculation with its differences, the proof of a number.

import { html, useState } from "../vendor/preact.js";
import { get, may, post } from "./api.js";
import { CopyButton, Dialog } from "./dialog.js";
import { number, stamp } from "./format.js";
import { Failure, useFetch } from "./page.js";
import { span } from "./time.js";
import { moment, parts } from "./zone.js";

const DAY = 86400000;
const DAYS = 30;
const SHOWN_MAX = 300;

// Begins of the last days, by the zone's midnights.
function days() {
  const today = parts(Date.now());
  return Array.from({ length: DAYS }, (_, i) => moment(today.year, today.month, today.day - (DAYS - 1 - i)));
}

// What the reconciliations of a day say: the newest that touches it, or that it differed in one.
function verdict(day, list) {
  const touching = list.filter((one) => one.from < day + DAY && one.to > day).sort((a, b) => b.at - a.at);
  if (touching.length === 0) return { word: "not reconciled", kind: "none" };
  const wrong = touching[0].agrees ? undefined : touching[0];
  return wrong ? { word: `differs by ${wrong.difference} events`, kind: "bad", found: wrong } : { word: "agrees", kind: "ok", found: touching[0] };
}

function Found({ found }) {
  return html`<p>${stamp(found.from)} to ${stamp(found.to)}: <b>${found.agrees ? "everything agrees" : `${found.difference.toLocaleString("en")} ${found.difference === 1 ? "event differs" : "events differ"}`}</b>, ${found.events.toLocaleString("en")} events in ${found.rows.toLocaleString("en")} rows of raw files, ${found.net.toLocaleString("en")} net. <span class="faint">Looked at ${stamp(found.at)}.</span></p>
    ${found.gaps.length > 0 && html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">hour</th><th scope="col">ad</th><th scope="col">number</th><th scope="col" class="figure">counted</th><th scope="col" class="figure">raw</th></tr></thead>
      <tbody>${found.gaps.slice(0, SHOWN_MAX).map((gap) => html`<tr><td class="nowrap">${stamp(gap.hour)}</td><td>${gap.ad_id || html`<span class="faint">all</span>`}</td><td>${gap.metric}</td><td class="figure">${gap.counted.toLocaleString("en")}</td><td class="figure" data-level="bad">${gap.raw.toLocaleString("en")}</td></tr>`)}</tbody></table></div>`}`;
}

export function Calendar() {
  const { data, error, again } = useFetch("/api/v1/reconcile", undefined, 60000);
  const [chosen, setChosen] = useState(null);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState(null);
  if (error && !data) return html`<section class="block"><h2>Reconciliations</h2><p class="faint">${error.message}</p></section>`;
  const list = data?.reconciliations ?? [];
  const run = async (day) => {
    setBusy(true);
    setFailed(null);
    try {
      const { data: found } = await post("/api/v1/reconcile", { from: day, to: Math.min(day + DAY, Math.floor(Date.now() / 3600000) * 3600000) });
      setChosen({ day, found });
      again();
    } catch (problem) {
      setFailed(problem);
    }
    setBusy(false);
  };
  const shown = chosen && (chosen.found ?? verdict(chosen.day, list).found);
  return html`<section class="block"><h2>Reconciliations <small class="faint">counts against the raw events, day by day</small></h2>
    <ol class="days is-verdicts">${days().map((day) => {
      const { word, kind } = verdict(day, list);
      return html`<li data-verdict=${kind}><button title=${`${stamp(day).slice(0, 10)}: ${word}`} aria-pressed=${chosen?.day === day} onClick=${() => setChosen({ day })}>${parts(day).day}<span class="visually-hidden">: ${word}</span></button></li>`;
    })}</ol>
    ${failed && html`<${Failure} error=${failed} />`}
    ${chosen && html`<p class="tools spaced"><b>${stamp(chosen.day).slice(0, 10)}</b> ${!shown && html`<span class="faint">not reconciled yet</span>`} ${may("admin") && html`<button class="button" disabled=${busy} onClick=${() => run(chosen.day)}>${busy ? "Counting…" : "Reconcile now"}</button>`}</p>`}
    ${shown && html`<${Found} found=${shown} />`}
  </section>`;
}

export function Recalculation() {
  const [state, setState] = useState({});
  if (!may("admin")) return null;
  const { from, to } = span.value;
  const run = async (body) => {
    setState((old) => ({ ...old, busy: true, error: undefined }));
    try {
      const { data } = await post("/api/v1/recalc", body);
      setState({ found: data, done: body.apply ? "applied" : body.rollback ? "rolled back" : undefined });
    } catch (error) {
      setState((old) => ({ ...old, busy: false, error }));
    }
  };
  const { found, busy, error, done } = state;
  const window = { from: Math.floor(from / 3600000) * 3600000, to: Math.ceil(to / 3600000) * 3600000 };
  return html`<section class="block"><h2>Recalculation</h2>
    <p class="tools"><button class="button" disabled=${busy} onClick=${() => run(window)}>${busy ? "Counting…" : "Try the present rules"}</button> <span class="faint">on the raw events of ${stamp(window.from).slice(0, 16)} to ${stamp(window.to).slice(0, 16)}; nothing changes until it is applied</span></p>
    ${error && html`<${Failure} error=${error} />`}
    ${found && html`<p role="status"><b>${found.changed === 0 ? "Nothing would change." : `${found.changed.toLocaleString("en")} of ${found.events.toLocaleString("en")} events ${done ?? "would be judged anew"}:`}</b> ${found.changed > 0 ? `net ${found.net >= 0 ? "+" : ""}${found.net.toLocaleString("en")}, spend ${number(found.spend)}` : ""}</p>
      ${found.changed > 0 && !done && html`<p class="tools spaced"><button class="button is-main" disabled=${busy} onClick=${() => run({ ...window, apply: true })}>Apply</button></p>`}
      ${done === "applied" && html`<p class="tools spaced"><button class="button" disabled=${busy} onClick=${() => run({ rollback: found.id })}>Roll back</button></p>`}
      ${found.difference?.length > 0 && html`<div class="panel scroll is-log" tabindex="0"><table class="table"><thead><tr><th scope="col">minute</th><th scope="col">ad</th><th scope="col">before</th><th scope="col">after</th><th scope="col" class="figure">events</th><th scope="col" class="figure">spend</th></tr></thead>
        <tbody>${found.difference.slice(0, SHOWN_MAX).map((one) => html`<tr><td class="nowrap">${stamp(one.minute).slice(0, 16)}</td><td>${one.ad_id}</td><td>${one.before || "net"}</td><td>${one.after || "net"}</td><td class="figure">${one.events}</td><td class="figure">${number(one.spend)}</td></tr>`)}</tbody></table></div>`}
      ${(found.truncated || found.difference?.length > SHOWN_MAX) && html`<p class="faint small">There are more than are shown.</p>`}`}
  </section>`;
}

// The statement that recomputes a number from the raw files, and the files.
export function Prove({ ad, from, to }) {
  const [state, setState] = useState(null);
  const open = async () => {
    setState({});
    try {
      setState({ proof: await get("/api/v1/prove", { ad_id: ad, from, to }) });
    } catch (error) {
      setState({ error });
    }
  };
  const { proof, error } = state ?? {};
  return html`<button class="button" onClick=${open}>Prove it</button>
    ${state && html`<${Dialog} title="Proof" wide=${true} onClose=${() => setState(null)}>
      ${error ? html`<${Failure} error=${error} />` : !proof ? html`<div class="skeleton"></div>` : html`<p>The answer is <b>${proof.count.toLocaleString("en")}</b>. This statement counts it again, in DuckDB, from ${proof.files.length} ${proof.files.length === 1 ? "file" : "files"} of raw events:</p>
        <pre class="config" tabindex="0">${proof.sql}</pre>
        <ul class="hits scroll">${proof.files.map((file) => html`<li><code class="wrapped">${file}</code></li>`)}</ul>
        <div class="dialog-tools"><${CopyButton} text=${proof.sql} title="Copy the statement" /></div>`}
    <//>`}`;
}
