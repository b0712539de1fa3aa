// Numbers with units, durations and times, as people read them.

import { parts } from "./zone.js";

const SI = ["", "k", "M", "G", "T", "P", "E"];
const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

// Digits that three or four figures need; trailing zeros go.
function figures(value, decimals) {
  const size = Math.abs(value);
  const digits = decimals ?? (size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.01 || size === 0 ? 3 : 5);
  const text = value.toFixed(digits);
  return decimals === undefined && text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function scaled(value, base, names, unit, decimals) {
  let size = value;
  let step = 0;
  while (Math.abs(size) >= base * 0.9995 && step < names.length - 1) {
    size /= base;
    step += 1;
  }
  const name = names[step] + unit;
  return figures(size, decimals) + (name === "" ? "" : "\u202f" + name);
}

function seconds(value, decimals) {
  const size = Math.abs(value);
  if (size === 0) return "0\u202fs";
  if (size < 1e-6) return figures(value * 1e9, decimals) + "\u202fns";
  if (size < 1e-3) return figures(value * 1e6, decimals) + "\u202fµs";
  if (size < 1) return figures(value * 1e3, decimals) + "\u202fms";
  if (size < 60) return figures(value, decimals) + "\u202fs";
  return (value < 0 ? "-" : "") + duration(Math.round(size) * 1000);
}

// A number with its unit; see `unit` in the dashboards' model.
export function number(value, unit = "", decimals) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : "−∞";
  switch (unit) {
    case "bytes":
      return scaled(value, 1024, BINARY, "B", decimals);
    case "bytes/s":
      return scaled(value, 1024, BINARY, "B/s", decimals);
    case "bits/s":
      return scaled(value, 1000, SI, "bit/s", decimals);
    case "seconds":
      return seconds(value, decimals);
    case "ms":
      return seconds(value / 1e3, decimals);
    case "µs":
      return seconds(value / 1e6, decimals);
    case "ns":
      return seconds(value / 1e9, decimals);
    case "°C":
    case "rpm":
      return figures(value, decimals) + "\u202f" + unit;
    case "percent":
      return Math.abs(value) < 1e5 ? figures(value, decimals) + "\u202f%" : scaled(value, 1000, SI, "%", decimals);
    case "ratio":
      return figures(value * 100, decimals) + "\u202f%";
    case "date":
      return stamp(value * 1000);
    case "":
    case "count":
      return Math.abs(value) < 1e4 ? figures(value, decimals) : scaled(value, 1000, SI, "", decimals);
    default:
      return scaled(value, 1000, SI, unit, decimals);
  }
}

// A number in full, for tables of raw values.
export function raw(text) {
  const value = Number(text);
  return Number.isFinite(value) && Math.abs(value) >= 1e6 ? `${text}\u2002(${number(value)})` : text;
}

const UNITS = [["y", 31536e6], ["w", 6048e5], ["d", 864e5], ["h", 36e5], ["m", 6e4], ["s", 1e3], ["ms", 1]];

// Milliseconds as `1h 30m`: the two largest parts.
export function duration(millis) {
  let rest = Math.abs(millis);
  const parts = [];
  for (const [unit, size] of UNITS) {
    if (unit === "w" || (unit === "ms" && parts.length > 0)) continue;
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(count + unit);
    if (parts.length === 2 || (parts.length === 1 && count === 0)) break;
  }
  return parts.join("\u202f") || "0s";
}

// `1h30m` as milliseconds; undefined when it is no duration.
export function parseDuration(text) {
  if (!/^(\d+(y|w|d|h|ms|m|s))+$/.test(text)) return undefined;
  let millis = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(y|w|d|h|ms|m|s)/g)) {
    millis += Number(count) * UNITS.find(([name]) => name === unit)[1];
  }
  return millis;
}

// Milliseconds as Prometheus writes a step: `15s`, `1m30s`.
export function promDuration(millis) {
  return millis % 1000 === 0 ? `${millis / 1000}s` : `${millis}ms`;
}

const two = (n) => String(n).padStart(2, "0");

// A point in time as the zone's clocks show it, `2026-11-22 14:05:09`; without the date when it is today's and `short`.
export function stamp(millis, short = false) {
  const at = parts(millis);
  const clock = `${two(at.hour)}:${two(at.minute)}:${two(at.second)}`;
  const date = `${at.year}-${two(at.month)}-${two(at.day)}`;
  if (short) {
    const today = parts(Date.now());
    if (at.day === today.day && at.month === today.month && at.year === today.year) return clock;
  }
  return `${date} ${clock}`;
}

// How long ago, in words.
export function ago(millis, now = Date.now()) {
  const length = now - millis;
  if (Math.abs(length) < 1000) return "now";
  return length > 0 ? `${duration(length)} ago` : `in ${duration(length)}`;
}

// A legend's `{{label}}` filled in.
export const fill = (legend, labels) => legend.replace(/\{\{\s*([^}\s]+)\s*\}\}/g, (_, name) => labels[name] ?? "");

// A series' name: a legend with `{{label}}`, or its labels in PromQL's notation.
export function seriesName(labels, legend) {
  if (legend) return fill(legend, labels).trim() || "(none)";
  const { __name__: name = "", ...rest } = labels;
  const inner = Object.entries(rest).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return inner.length === 0 ? name || "value" : `${name}{${inner.join(", ")}}`;
}
