// What a panel's queries answer: asked once for the range, then followed by the page's stream.

import { useEffect, useState } from "../vendor/preact.js";
import { query } from "./api.js";
import { promDuration, seriesName } from "./format.js";
import { follow, streaming } from "./live.js";
import { asked, compare, compareOffset, isLive, parsePoint, range, refresh, span, stepFor } from "./time.js";

// Replaces `$name`, `${name}` and the built-in `$__…` in a query.
export function substitute(text, values, { from, to }, step) {
  const length = Math.round((to - from) / 1000);
  const builtin = {
    __interval: promDuration(step),
    __interval_ms: String(step),
    // At least four collections of 15 s, so that a rate never looks at a single sample.
    __rate_interval: promDuration(Math.max(step + 15000, 60000)),
    __range: promDuration(length * 1000),
    __range_s: String(length),
    __range_ms: String(length * 1000),
    __from: String(from),
    __to: String(to),
  };
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => {
    const name = braced ?? bare;
    return builtin[name] ?? (values[name] !== undefined ? values[name].replace(/\\/g, "\\\\").replace(/"/g, '\\"') : whole);
  });
}

// Titles and texts: the values as the reader chose them.
export const worded = (text, values) =>
  (text ?? "").replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => {
    const value = values[braced ?? bare];
    return value === undefined ? whole : value === ".*" ? "All" : value;
  });

export const asksRange = (kind) => kind === "timeseries" || kind === "stat" || kind === "heatmap";

const keyOf = (labels) => JSON.stringify(Object.entries(labels).sort());

// Any kind of value as a list of named series.
export function listed({ resultType, result }, legend) {
  if (resultType === "scalar") return [{ name: legend || "value", labels: {}, key: "", values: [result] }];
  if (resultType === "string") return [{ name: result[1], labels: {}, key: "", values: [] }];
  return result.map((one) => ({
    name: seriesName(one.metric, legend),
    labels: one.metric,
    key: keyOf(one.metric),
    values: one.values ?? (one.value ? [one.value] : []),
    histograms: one.histograms ?? (one.histogram ? [one.histogram] : []),
  }));
}

// The answers with the points of an event added, and with what left the range dropped.
function extended(state, index, event, length, wholly) {
  const legend = state.legends[index];
  const fresh = new Map(listed(event.data, legend).map((one) => [one.key, one]));
  const to = Math.max(state.to, event.to * 1000);
  const from = to - length;
  const series = [];
  for (const old of state.series) {
    if (old.of !== index || old.ghost) {
      series.push(old);
      continue;
    }
    const more = fresh.get(old.key);
    fresh.delete(old.key);
    const kept = (points, added) => [...points.filter(([at]) => at < event.from && at * 1000 >= from), ...(added ?? [])];
    if (wholly && !more) continue;
    const joined = wholly
      ? { ...old, values: more.values.slice(-1), histograms: more.histograms.slice(-1) }
      : { ...old, values: kept(old.values, more?.values), histograms: kept(old.histograms, more?.histograms) };
    if (joined.values.length > 0 || joined.histograms.length > 0) series.push(joined);
  }
  for (const more of fresh.values()) series.push({ ...more, values: wholly ? more.values.slice(-1) : more.values, of: index });
  return { ...state, series, from: Math.max(state.from, from), to, error: undefined };
}

// The answers: `{ series, step, from, to, warnings }`, or an error; the last answer stays while a new one comes.
export function useAnswers(panel, values, width, seen) {
  const [state, setState] = useState({ loading: true });
  const relative = isLive.value && range.value.from.startsWith("now-");
  const live = relative && refresh.value > 0 && streaming.value;
  const ready = seen && width > 0 && Object.values(values).every((value) => value !== undefined);
  // A live chart does not ask again when time goes on: its points arrive.
  const when = live ? [range.value, refresh.value] : [span.value.from, span.value.to];
  const key = JSON.stringify([panel.kind, panel.queries, values, when, compare.value, asked.value, Math.round(width / 100)]);
  useEffect(() => {
    if (!ready || panel.queries.length === 0) return undefined;
    const abort = new AbortController();
    const ends = [];
    const to = live ? Date.now() : span.peek().to;
    const window = { from: live ? (parsePoint(range.peek().from, to) ?? to - 36e5) : span.peek().from, to };
    const step = stepFor(window, panel.kind === "stat" ? width / 4 : width);
    const first = Math.ceil(window.from / step) * step;
    const last = Math.max(first, Math.floor(window.to / step) * step);
    const offset = panel.kind === "timeseries" ? compareOffset(window) : 0;
    const ranged = asksRange(panel.kind);
    const ask = async ({ query: text, legend }, index) => {
      const expr = substitute(text, values, window, step);
      if (!ranged) {
        const answer = await query("/api/v1/query", { query: expr, time: to / 1000 }, abort.signal);
        return { expr, series: listed(answer, legend).map((one) => ({ ...one, of: index })), warnings: answer.warnings };
      }
      const params = { query: expr, step: step / 1000 };
      const answer = await query("/api/v1/query_range", { ...params, start: first / 1000, end: last / 1000 }, abort.signal);
      const series = listed(answer, legend).map((one) => ({ ...one, of: index }));
      if (offset > 0) {
        // The comparison reaches beyond the end, so that it is there when the stream brings new points.
        const beyond = live ? (last - first) / 4 : 0;
        const before = await query("/api/v1/query_range", { ...params, start: (first - offset) / 1000, end: (last - offset + beyond) / 1000 }, abort.signal);
        for (const one of listed(before, legend)) {
          series.push({ ...one, of: index, ghost: true, name: `${one.name} (before)`, values: one.values.map(([at, value]) => [at + offset / 1000, value]) });
        }
      }
      return { expr, series, warnings: answer.warnings };
    };
    Promise.all(panel.queries.map(ask)).then(
      (answers) => {
        setState({
          series: answers.flatMap((answer) => answer.series).sort((a, b) => Number(a.ghost ?? false) - Number(b.ghost ?? false)),
          warnings: answers.flatMap((answer) => answer.warnings),
          legends: panel.queries.map((one) => one.legend),
          step,
          from: first,
          to: last,
        });
        if (!live) return;
        const pace = ranged ? step : Math.max(refresh.peek(), 1000);
        const next = ranged ? last + step : to + pace;
        answers.forEach(({ expr }, index) => {
          const took = (event) =>
            setState((old) => (event.error ? { ...old, error: new Error(event.error) } : old.series ? extended(old, index, event, last - first, !ranged) : old));
          ends.push(follow(expr, pace, next, took));
        });
      },
      (error) => error.name !== "AbortError" && setState((old) => ({ ...old, loading: false, error })),
    );
    return () => {
      abort.abort();
      ends.forEach((end) => end());
    };
  }, [ready, key]);
  return state;
}
