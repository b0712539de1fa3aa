// The buckets of a histogram over time: the darker a cell, the more fell into it.

import uPlot from "../vendor/uplot.js";
import { html, useLayoutEffect, useMemo, useRef } from "../vendor/preact.js";
import { axis, crosshair, zonedDate } from "./chart.js";
import { number, stamp } from "./format.js";
import { color, theme } from "./theme.js";
import { zoom } from "./time.js";
import { zone } from "./zone.js";

const ROWS_MAX = 160;

// The grid of cells: `{ times, rows: [{ low, high }], cells: [row][time] }`, from cumulative `le` series or native histograms.
export function grid(series, from, to, step) {
  const first = Math.ceil(from / step) * step;
  const count = Math.max(1, Math.floor((to - first) / step) + 1);
  const times = Array.from({ length: count }, (_, i) => (first + i * step) / 1000);
  const native = series.filter((one) => one.histograms?.length > 0);
  return native.length > 0 ? fromNative(native, times, first, step) : fromBuckets(series, times, first, step);
}

const indexOf = (at, first, step) => Math.round((at * 1000 - first) / step);

function fromBuckets(series, times, first, step) {
  const byBound = new Map();
  for (const one of series) {
    const bound = Number(one.labels.le === "+Inf" ? Infinity : one.labels.le);
    if (one.labels.le === undefined || Number.isNaN(bound)) continue;
    const column = byBound.get(bound) ?? new Array(times.length).fill(null);
    for (const [at, value] of one.values) {
      const index = indexOf(at, first, step);
      if (index >= 0 && index < times.length) column[index] = (column[index] ?? 0) + Number(value);
    }
    byBound.set(bound, column);
  }
  const bounds = [...byBound.keys()].sort((a, b) => a - b).slice(0, ROWS_MAX);
  const cells = bounds.map((bound, row) => {
    const below = row > 0 ? byBound.get(bounds[row - 1]) : null;
    return byBound.get(bound).map((value, i) => (value === null ? 0 : Math.max(0, value - (below?.[i] ?? 0))));
  });
  return { times, rows: bounds.map((high, row) => ({ low: row > 0 ? bounds[row - 1] : 0, high })), cells };
}

function fromNative(series, times, first, step) {
  const rows = new Map();
  for (const one of series) {
    for (const [at, histogram] of one.histograms) {
      const index = indexOf(at, first, step);
      if (index < 0 || index >= times.length) continue;
      for (const [, low, high, value] of histogram.buckets ?? []) {
        const key = `${low} ${high}`;
        if (!rows.has(key)) rows.set(key, { low: Number(low), high: Number(high), cells: new Array(times.length).fill(0) });
        rows.get(key).cells[index] += Number(value);
      }
    }
  }
  const sorted = [...rows.values()].sort((a, b) => a.high - b.high).slice(0, ROWS_MAX);
  return { times, rows: sorted.map(({ low, high }) => ({ low, high })), cells: sorted.map((row) => row.cells) };
}

const bound = (value, unit) => (Number.isFinite(value) ? number(value, unit) : "∞");

export function Heatmap({ panel, series, from, to, step, height, label }) {
  const frame = useRef();
  const tip = useRef();
  const data = useMemo(() => grid(series, from, to, step), [series, from, to, step]);
  const { times, rows, cells } = data;
  const most = Math.max(0, ...cells.map((row) => Math.max(0, ...row)));

  useLayoutEffect(() => {
    if (rows.length === 0) return undefined;
    const cellAt = (plot) => {
      const { left, top } = plot.cursor;
      if (left < 0) return undefined;
      const column = Math.round((plot.posToVal(left, "x") * 1000 - times[0] * 1000) / step);
      const row = Math.floor(plot.posToVal(top, "y"));
      return rows[row] && times[column] !== undefined ? { row, column } : undefined;
    };
    const draw = (plot) => {
      const { ctx } = plot;
      ctx.save();
      const width = Math.max(1, plot.valToPos(times[0] + step / 1000, "x", true) - plot.valToPos(times[0], "x", true));
      cells.forEach((row, r) => {
        const top = plot.valToPos(r + 1, "y", true);
        const bottom = plot.valToPos(r, "y", true);
        row.forEach((value, i) => {
          if (value <= 0) return;
          // The root lets rare values be seen beside frequent ones.
          ctx.fillStyle = color("--heat", Math.round((0.08 + 0.92 * Math.sqrt(value / most)) * 25) / 25);
          ctx.fillRect(plot.valToPos(times[i], "x", true) - width / 2, top, width > 8 ? width - 1 : width + 0.5, bottom - top - 1);
        });
      });
      ctx.restore();
    };
    const hover = (plot) => {
      const cell = plot.over.matches(":hover") ? cellAt(plot) : undefined;
      tip.current.hidden = !cell;
      if (!cell) return;
      const { low, high } = rows[cell.row];
      const head = document.createElement("div");
      head.className = "tip-time";
      head.textContent = stamp(times[cell.column] * 1000);
      const line = document.createElement("div");
      line.textContent = `${bound(low, panel.unit)} to ${bound(high, panel.unit)}: ${number(cells[cell.row][cell.column])}`;
      tip.current.replaceChildren(head, line);
      const right = plot.cursor.left > plot.over.clientWidth / 2;
      tip.current.style.left = `${plot.over.offsetLeft + plot.cursor.left + (right ? -tip.current.offsetWidth - 14 : 14)}px`;
      tip.current.style.top = `${Math.max(0, Math.min(plot.cursor.top, plot.over.clientHeight - tip.current.offsetHeight))}px`;
    };
    const every = Math.max(1, Math.ceil(rows.length / Math.max(2, Math.floor(height / 30))));
    const y = {
      ...axis(panel.unit ?? "", false),
      splits: () => rows.map((_, row) => row + 1).filter((row) => row % every === 0),
      values: (_, splits) => splits.map((row) => bound(rows[row - 1]?.high, panel.unit)),
      grid: { show: false },
    };
    const plot = new uPlot(
      {
        width: frame.current.clientWidth,
        height,
        tzDate: zonedDate,
        padding: [8, 18, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: crosshair.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { show: false } },
        scales: { x: { time: true, range: () => [times[0] - step / 2000, times.at(-1) + step / 2000] }, y: { range: () => [0, rows.length] } },
        axes: [axis("", true), y],
        series: [{}, { show: true, paths: () => null, points: { show: false } }],
        hooks: {
          drawAxes: [draw],
          setCursor: [hover],
          setSelect: [
            (self) => {
              if (self.select.width > 4) zoom(self.posToVal(self.select.left, "x") * 1000, self.posToVal(self.select.left + self.select.width, "x") * 1000);
              self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            },
          ],
        },
      },
      [times, times.map(() => null)],
      frame.current,
    );
    const observer = new ResizeObserver(() => {
      const width = frame.current?.clientWidth ?? 0;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height });
    });
    observer.observe(frame.current);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [data, height, theme.value, zone.value]);

  if (rows.length === 0) return html`<p class="panel-note">A heat map needs the buckets of a histogram: series with a label <code>le</code>, or native histograms.</p>`;
  return html`<div class="chart" role="img" aria-label=${label}>
    <div ref=${frame} class="chart-frame"></div>
    <div ref=${tip} class="tip" hidden></div>
  </div>
  <p class="heat-scale" aria-hidden="true"><span>0</span><i></i><span>${number(most)}</span></p>`;
}
