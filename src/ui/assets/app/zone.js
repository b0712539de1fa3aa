// The time zone of everything that is shown: the browser's, UTC, or one by name. It stays in this browser.

import { signal } from "../vendor/preact.js";

const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
const valid = (name) => {
  try {
    return name === "local" || Boolean(new Intl.DateTimeFormat("en", { timeZone: name }));
  } catch {
    return false;
  }
};
const stored = localStorage.getItem("zone") ?? "local";

// `local`, or a name of the IANA's list.
export const zone = signal(valid(stored) ? stored : "local");

export function setZone(name) {
  if (!valid(name)) return false;
  zone.value = name;
  localStorage.setItem("zone", name);
  return true;
}

export const zoneName = () => (zone.value === "local" ? own : zone.value);
export const ZONES = () => (Intl.supportedValuesOf ? ["UTC", ...Intl.supportedValuesOf("timeZone").filter((name) => name !== "UTC")] : ["UTC"]);

const formats = new Map();
function format(name) {
  if (!formats.has(name)) {
    const part = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", weekday: "short" };
    formats.set(name, new Intl.DateTimeFormat("en-US", { timeZone: name, hourCycle: "h23", ...part }));
  }
  return formats.get(name);
}

const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

// Year, month (from 1), day, hour, minute, second and weekday (0 is Sunday) of a moment.
export function parts(millis) {
  if (zone.value === "local") {
    const at = new Date(millis);
    return { year: at.getFullYear(), month: at.getMonth() + 1, day: at.getDate(), hour: at.getHours(), minute: at.getMinutes(), second: at.getSeconds(), weekday: at.getDay() };
  }
  const found = {};
  for (const { type, value } of format(zone.value).formatToParts(millis)) found[type] = type === "weekday" ? WEEKDAYS.indexOf(value) : Number(value);
  return found;
}

// The moment at which clocks of the zone show this; twice, since the first guess may lie on the other side of a change.
export function moment(year, month, day, hour = 0, minute = 0, second = 0) {
  const wanted = Date.UTC(year, month - 1, day, hour, minute, second);
  let guess = wanted;
  for (let turn = 0; turn < 2; turn += 1) {
    const shown = parts(guess);
    guess += wanted - Date.UTC(shown.year, shown.month - 1, shown.day, shown.hour, shown.minute, shown.second);
  }
  return guess;
}
