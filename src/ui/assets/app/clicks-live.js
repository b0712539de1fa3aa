// Clicks as they become durable, from the server's stream of events.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { prefix } from "./api.js";
import { number, stamp } from "./format.js";

const SHOWN_MAX = 100;
const SECONDS = 120;
const DRAW_EVERY = 250;
const HIDDEN = new Set(["ts", "received_at", "net"]);

const bad = (event) => event.net === false;

export function Live() {
  const [paused, setPaused] = useState(false);
  const [, redraw] = useState(0);
  const [state, setState] = useState("connecting");
  const seen = useRef({ list: [], bars: new Map(), missed: 0, count: 0 });
  useEffect(() => {
    if (paused) return undefined;
    const source = new EventSource(`${prefix}/api/v1/events/tail`);
    source.onopen = () => setState("live");
    source.onerror = () => setState(source.readyState === EventSource.CLOSED ? "ended" : "connecting");
    source.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      const { current } = seen;
      current.list = [event, ...current.list].slice(0, SHOWN_MAX);
      current.count += 1;
      const second = Math.floor(Date.now() / 1000);
      const bar = current.bars.get(second) ?? { good: 0, bad: 0 };
      bar[bad(event) ? "bad" : "good"] += 1;
      current.bars.set(second, bar);
    };
    source.addEventListener("missed", ({ data }) => (seen.current.missed += Number(data)));
    const timer = setInterval(() => {
      const oldest = Math.floor(Date.now() / 1000) - SECONDS;
      for (const second of seen.current.bars.keys()) if (second < oldest) seen.current.bars.delete(second);
      redraw((n) => n + 1);
    }, DRAW_EVERY);
    return () => {
      source.close();
      clearInterval(timer);
    };
  }, [paused]);
  const { list, bars, missed, count } = seen.current;
  const at = Math.floor(Date.now() / 1000);
  const all = Array.from({ length: SECONDS }, (_, i) => bars.get(at - SECONDS + 1 + i) ?? { good: 0, bad: 0 });
  const most = Math.max(4, ...all.map((bar) => bar.good + bar.bad));
  const last = all.slice(-11, -1).reduce((sum, bar) => sum + bar.good + bar.bad, 0) / 10;
  const fields = (event) => Object.entries(event).filter(([name, value]) => !HIDDEN.has(name) && value !== null && value !== "" && typeof value !== "object");
  return html`<p class="tools"><span class="badge" data-level=${state === "live" ? "ok" : "warn"}>${paused ? "paused" : state}</span> <b>${number(last, "/s")}</b> <span class="faint">${count.toLocaleString("en")} since this page looks${missed > 0 ? `, ${missed.toLocaleString("en")} missed` : ""}</span>
      <button class="button" aria-pressed=${paused} onClick=${() => setPaused(!paused)}>${paused ? "Go on" : "Pause"}</button></p>
    <section class="panel is-wide"><header class="panel-head"><h3>Events a second, the last two minutes</h3></header>
      <svg class="bars" viewBox=${`0 0 ${SECONDS * 4} 60`} preserveAspectRatio="none" role="img" aria-label=${`${number(last, "/s")} now`}>${all.map((bar, i) => {
        const [good, wrong] = [(58 * bar.good) / most, (58 * bar.bad) / most];
        return html`<rect x=${i * 4} width="3" y=${60 - good} height=${good} class="is-good" /><rect x=${i * 4} width="3" y=${60 - good - wrong} height=${wrong} class="is-bad" />`;
      })}</svg></section>
    ${list.length === 0 ? html`<p class="empty">No event has come since this page looks.</p>` : html`<div class="panel scroll" tabindex="0"><table class="table"><thead><tr><th scope="col">when</th><th scope="col">event</th></tr></thead>
      <tbody>${list.map((event, i) => html`<tr key=${event.event_id ?? i}><td class="nowrap">${stamp(event.ts, true)}</td><td>${bad(event) && html`<span class="badge" data-level="bad">${event.reasons?.join(", ") || "marked"}</span> `}<span class="tags">${fields(event).map(([name, value]) => html`<span class="tag"><span class="faint">${name}=</span>${String(value)}</span>`)}</span></td></tr>`)}</tbody></table></div>`}`;
}
