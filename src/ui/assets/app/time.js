// The time that a page looks at: one range for all charts, in the address, refreshed on an interval.

import { computed, signal } from "../vendor/preact.js";
import { duration, parseDuration, stamp } from "./format.js";
import { moment } from "./zone.js";

// `from` and `to` are either `now`, `now-1h`, or milliseconds since the epoch as text.
export const range = signal({ from: "now-1h", to: "now" });
export const refresh = signal(15000);
export const now = signal(Date.now());
// What is shown beside it, dashed: nothing (`""`), the range before (`previous`), or the same range so long ago (`1d`, `7d`).
export const compare = signal("");
// Grows when the reader asks for everything anew.
export const asked = signal(0);
const history = [];

export const RELATIVE = ["5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d", "2d", "7d", "30d", "90d"];
export const REFRESH = [["off", 0], ["5s", 5000], ["15s", 15000], ["30s", 30000], ["1m", 60000], ["5m", 300000]];

// Milliseconds of one end of a range; undefined when the text means nothing.
export function parsePoint(text, at = Date.now()) {
  const trimmed = text.trim();
  if (trimmed === "now") return at;
  const relative = /^now-(.+)$/.exec(trimmed);
  if (relative) {
    const length = parseDuration(relative[1]);
    return length === undefined ? undefined : at - length;
  }
  if (/^\d{11,}$/.test(trimmed)) return Number(trimmed);
  const date = /^(\d{4})-(\d\d?)-(\d\d?)(?:[ T](\d\d?):(\d\d)(?::(\d\d))?)?$/.exec(trimmed);
  if (date) return moment(...date.slice(1).map((part) => Number(part ?? 0)));
  const parsed = Date.parse(trimmed);
  return Number.isNaN(parsed) ? undefined : parsed;
}

// The range in milliseconds, as of the last refresh.
export const span = computed(() => {
  const to = parsePoint(range.value.to, now.value) ?? now.value;
  const from = parsePoint(range.value.from, now.value) ?? to - 36e5;
  return from < to ? { from, to } : { from: to - 36e5, to };
});

// How far back the comparison lies, in milliseconds; 0 for none.
export function compareOffset({ from, to } = span.value) {
  if (compare.value === "previous") return to - from;
  return compare.value === "" ? 0 : (parseDuration(compare.value) ?? 0);
}

export const isLive = computed(() => range.value.to === "now");

// The range in words.
export const label = computed(() => {
  const { from, to } = range.value;
  if (to === "now" && from.startsWith("now-")) return `Last ${from.slice(4)}`;
  return `${stamp(span.value.from)} – ${to === "now" ? "now" : stamp(span.value.to)}`;
});

export function setRange(from, to = "now", remember = true) {
  if (remember) history.push(range.value);
  range.value = { from, to };
  now.value = Date.now();
}

// Looks at `[from, to]` milliseconds: what dragging over a chart does.
export function zoom(from, to) {
  if (to - from >= 1000) setRange(String(Math.round(from)), String(Math.round(to)));
}

export function again() {
  asked.value += 1;
  now.value = Date.now();
}

// Undoes the last change of range.
export function back() {
  const last = history.pop();
  if (last) range.value = last;
}

// Moves by half the range (-1, 1), or doubles it (0).
export function shift(direction) {
  const { from, to } = span.value;
  const half = (to - from) / 2;
  if (direction === 0) setRange(String(Math.round(from - half)), String(Math.round(Math.min(to + half, Date.now()))));
  else zoom(from + direction * half, to + direction * half);
}

// A step that gives about one point every two pixels, from a list of round lengths.
const STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
export function stepFor({ from, to }, pixels, least = 15) {
  const wanted = (to - from) / 1000 / Math.max(60, Math.min(pixels / 2, 1000));
  const step = STEPS.find((candidate) => candidate >= wanted && candidate >= least) ?? Math.ceil(wanted / 86400) * 86400;
  return step * 1000;
}

let timer;
// Starts the ticks; a hidden page does not ask anything.
export function start() {
  const tick = () => {
    clearTimeout(timer);
    if (refresh.value > 0) timer = setTimeout(tick, refresh.value);
    if (refresh.value > 0 && isLive.value && document.visibilityState === "visible") now.value = Date.now();
  };
  refresh.subscribe(tick);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && tick());
}

export const describe = () => duration(span.value.to - span.value.from);
