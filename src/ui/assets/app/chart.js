// A chart over time: uPlot with our colours, a crosshair shared by all charts of the page, and zoom by dragging.

import uPlot from "../vendor/uplot.js";
import { html, useEffect, useLayoutEffect, useRef } from "../vendor/preact.js";
import { number, stamp } from "./format.js";
import { back, zoom } from "./time.js";
import { color, seriesColor, theme } from "./theme.js";

const TIPS_MAX = 12;
const crosshair = uPlot.sync("page");

// Turns a matrix into columns over one time axis: `[times, ...values]`, null where a series has no point.
export function columns(series, from, to, step) {
  const first = Math.ceil(from / step) * step;
  const count = Math.max(0, Math.floor((to - first) / step) + 1);
  const times = Array.from({ length: count }, (_, i) => (first + i * step) / 1000);
  const all = [times];
  for (const one of series) {
    const column = new Array(count).fill(null);
    for (const [at, value] of one.values ?? []) {
      const index = Math.round((at * 1000 - first) / step);
      const parsed = Number(value);
      if (index >= 0 && index < count && Number.isFinite(parsed)) column[index] = parsed;
    }
    all.push(column);
  }
  return all;
}

// Adds each column to those below it.
function stacked([times, ...values]) {
  const base = new Array(times.length).fill(0);
  return [times, ...values.map((column) => column.map((value, i) => (value === null ? null : (base[i] += value))))];
}

const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// Local times for the axis: hours and minutes, seconds where they matter, the day where it begins.
function timeLabels(_, splits, __, ___, increment) {
  return splits.map((at) => {
    const date = new Date(at * 1000);
    const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
    if (increment >= 86400 || midnight) return `${date.getDate()} ${MONTHS[date.getMonth()]}`;
    return `${two(date.getHours())}:${two(date.getMinutes())}${increment < 60 ? `:${two(date.getSeconds())}` : ""}`;
  });
}

// Round steps for bytes are powers of two.
const BINARY_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);

function axis(unit, time) {
  return {
    stroke: () => color("--text-faint"),
    font: "11px " + getComputedStyle(document.body).fontFamily,
    grid: { stroke: () => color("--grid"), width: 1 },
    ticks: { show: false },
    gap: time ? 6 : 8,
    ...(time
      ? { space: 68, size: 28, values: timeLabels }
      : {
          space: 36,
          incrs: unit.startsWith("bytes") ? BINARY_STEPS : undefined,
          size: (_, labels) => 14 + 6.2 * Math.max(3, ...(labels ?? []).map((label) => label.length)),
          values: (_, splits) => splits.map((value) => number(value, unit)),
        }),
  };
}

function bounds(panel) {
  return (_, low, high) => {
    let min = panel.min ?? Math.min(low ?? 0, panel.stack ? 0 : Infinity);
    let max = panel.max ?? high ?? 1;
    if (panel.min === undefined && min >= 0 && min < max * 0.5) min = 0;
    if (min === max) [min, max] = min === 0 ? [0, 1] : [Math.min(0, min), Math.max(0, max * 1.2)];
    const room = (max - min) * 0.08;
    return [panel.min ?? (min === 0 ? 0 : min - room), panel.max ?? max + room];
  };
}

// Horizontal lines where the levels of the panel begin.
function drawThresholds(plot, thresholds) {
  for (const [from, level] of thresholds ?? []) {
    const y = plot.valToPos(from, "y", true);
    if (level === "ok" || y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) continue;
    plot.ctx.save();
    plot.ctx.strokeStyle = color(`--${level}`);
    plot.ctx.globalAlpha = 0.6;
    plot.ctx.setLineDash([6, 5]);
    plot.ctx.beginPath();
    plot.ctx.moveTo(plot.bbox.left, y);
    plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
    plot.ctx.stroke();
    plot.ctx.restore();
  }
}

// Fills the tip beside the crosshair: the time, and the values nearest to the pointer, in the chart's own order.
function fillTip(tip, plot, names, values, unit, decimals) {
  const { idx, left, top } = plot.cursor;
  const own = plot.over.matches(":hover");
  tip.hidden = idx === null || idx === undefined || left < 0 || !own;
  if (tip.hidden) return;
  const lines = names
    .map((name, i) => ({ name, i, value: values[i + 1]?.[idx], at: plot.data[i + 1]?.[idx] }))
    .filter(({ value, i }) => value !== null && value !== undefined && plot.series[i + 1].show);
  const pointer = plot.posToVal(top, "y");
  if (lines.length > TIPS_MAX) lines.sort((a, b) => Math.abs(a.at - pointer) - Math.abs(b.at - pointer));
  const shown = lines.slice(0, TIPS_MAX).sort((a, b) => b.at - a.at);
  const head = document.createElement("div");
  head.className = "tip-time";
  head.textContent = stamp(plot.data[0][idx] * 1000);
  const rows = shown.map(({ name, i, value }) => {
    const row = document.createElement("div");
    row.className = "tip-row";
    const dot = document.createElement("i");
    dot.style.background = seriesColor(i);
    const text = document.createElement("span");
    text.textContent = name;
    const figure = document.createElement("b");
    figure.textContent = number(value, unit, decimals);
    row.append(dot, text, figure);
    return row;
  });
  if (lines.length > TIPS_MAX) {
    const more = document.createElement("div");
    more.className = "tip-more";
    more.textContent = `and ${lines.length - TIPS_MAX} more`;
    rows.push(more);
  }
  tip.replaceChildren(head, ...rows);
  const box = tip.offsetParent.getBoundingClientRect();
  const over = plot.over.getBoundingClientRect();
  const x = over.left - box.left + left;
  const flip = x + 18 + tip.offsetWidth > box.width && x - 18 - tip.offsetWidth > 0;
  tip.style.left = `${flip ? x - 18 - tip.offsetWidth : Math.min(x + 18, Math.max(0, box.width - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, over.top - box.top + top - tip.offsetHeight / 2)}px`;
}

function options(panel, names, values, size, tip, hidden) {
  const { unit, decimals, stack } = panel;
  const fill = (i) => (stack ? seriesColor(i, 0.35) : names.length === 1 ? seriesColor(i, 0.1) : undefined);
  return {
    ...size,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: crosshair.key, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { size: 6, width: 1.5 },
      focus: { prox: 24 },
    },
    focus: { alpha: names.length > 1 && !stack ? 0.35 : 1 },
    scales: { x: { time: true }, y: { range: bounds(panel) } },
    axes: [axis("", true), axis(unit, false)],
    series: [
      {},
      ...names.map((name, i) => ({
        label: name,
        show: !hidden?.has(name),
        stroke: seriesColor(i),
        fill: fill(i),
        width: 1.6,
        points: { show: false },
      })),
    ],
    bands: stack ? names.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : undefined,
    hooks: {
      draw: [(plot) => drawThresholds(plot, panel.thresholds)],
      setCursor: [(plot) => fillTip(tip, plot, names, values.current, unit, decimals)],
      setSelect: [
        (plot) => {
          if (plot.select.width > 4) {
            zoom(plot.posToVal(plot.select.left, "x") * 1000, plot.posToVal(plot.select.left + plot.select.width, "x") * 1000);
          }
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    },
  };
}

// `data` as `columns` returns it, one name for each series; `hidden` is a set of names that are not drawn.
export function Chart({ panel, data, names, hidden, height, label }) {
  const frame = useRef();
  const tip = useRef();
  const plot = useRef();
  const values = useRef(data);
  values.current = data;
  const shape = names.join("\n") + theme.value + (panel.stack ?? "") + [...(hidden ?? [])].join("\n");

  useLayoutEffect(() => {
    const size = { width: frame.current.clientWidth, height };
    const shown = panel.stack ? stacked(values.current) : values.current;
    plot.current = new uPlot(options(panel, names, values, size, tip.current, hidden), shown, frame.current);
    const double = () => back();
    plot.current.over.addEventListener("dblclick", double);
    const observer = new ResizeObserver(() => {
      const width = frame.current?.clientWidth ?? 0;
      if (width > 0 && width !== plot.current.width) plot.current.setSize({ width, height });
    });
    observer.observe(frame.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
  }, [shape, height]);

  useEffect(() => {
    if (plot.current.data !== data) plot.current.setData(panel.stack ? stacked(data) : data);
  }, [data]);

  return html`<div class="chart" role="img" aria-label=${label}>
    <div ref=${frame} class="chart-frame"></div>
    <div ref=${tip} class="tip" hidden></div>
  </div>`;
}
