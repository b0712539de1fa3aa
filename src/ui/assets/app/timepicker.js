// The time picker: relative ranges, absolute ends, refresh; with the keyboard as well as with the mouse.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";
import { again, compare, parsePoint, range, REFRESH, refresh, RELATIVE, label, setRange, shift, span, isLive } from "./time.js";
import { stamp } from "./format.js";
import { setZone, zone, zoneName, ZONES } from "./zone.js";

const COMPARE = [["", "nothing"], ["previous", "the time before"], ["1d", "a day ago"], ["7d", "a week ago"], ["28d", "4 weeks ago"]];

// A button with a sheet below it, which closes on Escape and on a click elsewhere.
export function Popover({ button, label: name, class: kind, children }) {
  const [open, setOpen] = useState(false);
  const frame = useRef();
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => !frame.current.contains(event.target) && setOpen(false);
    const escape = (event) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      frame.current.querySelector("button").focus();
    };
    addEventListener("pointerdown", outside);
    addEventListener("keydown", escape);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("keydown", escape);
    };
  }, [open]);
  return html`<div ref=${frame} class="popover-anchor">
    <button class=${kind ?? "button"} aria-expanded=${open} aria-haspopup="dialog" aria-label=${name} title=${name} onClick=${() => setOpen(!open)}>${button}</button>
    ${open && html`<div class="popover" role="dialog" aria-label=${name}>${children(() => setOpen(false))}</div>`}
  </div>`;
}

function Absolute({ close }) {
  const [from, setFrom] = useState(isLive.value ? range.value.from : stamp(span.value.from));
  const [to, setTo] = useState(isLive.value ? "now" : stamp(span.value.to));
  const start = parsePoint(from);
  const end = parsePoint(to);
  const wrong = start === undefined || end === undefined ? "now-1h, or 2026-11-22 14:00:00" : start >= end ? "the range is empty" : "";
  const apply = (event) => {
    event.preventDefault();
    if (wrong) return;
    const relative = (text, value) => (text.trim().startsWith("now") ? text.trim() : String(value));
    setRange(relative(from, start), relative(to, end));
    close();
  };
  return html`<form class="absolute" onSubmit=${apply}>
    <label>From <input value=${from} onInput=${(event) => setFrom(event.target.value)} aria-invalid=${start === undefined} /></label>
    <label>To <input value=${to} onInput=${(event) => setTo(event.target.value)} aria-invalid=${end === undefined} /></label>
    <button class="button is-main" disabled=${wrong !== ""}>Apply</button>
    <small class="faint">${wrong}</small>
  </form>`;
}

function Zone() {
  const [wrong, setWrong] = useState(false);
  return html`<label class="absolute is-line">Zone <input list="zones" aria-invalid=${wrong} value=${zone.value === "local" ? "" : zone.value} placeholder=${`${zoneName()} (this browser)`}
    onChange=${(event) => setWrong(!setZone(event.target.value.trim() || "local"))} /></label>
    <datalist id="zones">${ZONES().map((name) => html`<option value=${name}></option>`)}</datalist>`;
}

export function TimePicker({ comparable }) {
  const current = isLive.value && range.value.from.startsWith("now-") ? range.value.from.slice(4) : null;
  return html`<div class="timepicker" role="group" aria-label="Time range">
    <button class="button icon" title="Earlier" aria-label="Earlier" onClick=${() => shift(-1)}><${Icon} name="left" /></button>
    <${Popover} label="Time range" button=${html`<${Icon} name="clock" /> <span>${label.value}${comparable && compare.value ? html`<small class="faint"> vs ${COMPARE.find(([value]) => value === compare.value)?.[1] ?? compare.value}</small>` : ""}${zone.value !== "local" ? html`<small class="faint"> ${zone.value}</small>` : ""}</span>`}>
      ${(close) => html`<div class="choices">
          ${RELATIVE.map((length) => html`<button class="choice" aria-pressed=${length === current} onClick=${() => (setRange(`now-${length}`), close())}>${length}</button>`)}
        </div>
        <${Absolute} close=${close} />
        ${comparable && html`<label class="absolute is-line">Beside <select class="button" value=${compare.value} onChange=${(event) => (compare.value = event.target.value)}>${COMPARE.map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select></label>`}
        <${Zone} />`}
    <//>
    <button class="button icon" title="Later" aria-label="Later" disabled=${isLive.value} onClick=${() => shift(1)}><${Icon} name="right" /></button>
    <button class="button icon" title="Zoom out" aria-label="Zoom out" onClick=${() => shift(0)}><${Icon} name="out" /></button>
    <div class="joined">
      <button class="button icon" title="Refresh now" aria-label="Refresh now" onClick=${again}><${Icon} name="refresh" /></button>
      <select class="button" aria-label="Refresh every" value=${refresh.value} onChange=${(event) => (refresh.value = Number(event.target.value))}>
        ${REFRESH.map(([name, millis]) => html`<option value=${millis}>${name}</option>`)}
      </select>
    </div>
  </div>`;
}
