// A chart over time: uPlot with our colours, a crosshair shared by all charts of the page, and zoom by dragging.

import uPlot from "../vendor/uplot.js";
import { html, useEffect, useLayoutEffect, useRef } from "../vendor/preact.js";
import { number, stamp } from "./format.js";
import { back, zoom } from "./time.js";
import { color, seriesColor, theme } from "./theme.js";
import { parts, zone } from "./zone.js";

const TIPS_MAX = 12;
export const crosshair = uPlot.sync("page");

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

// Adds each column to those below it; those of a comparison stand for themselves.
function stacked([times, ...values], ghosts) {
  const base = new Array(times.length).fill(0);
  return [times, ...values.map((column, s) => (ghosts?.[s] ? column : column.map((value, i) => (value === null ? null : (base[i] += value)))))];
}

const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// Times for the axis: hours and minutes, seconds where they matter, the day where it begins.
export function timeLabels(_, splits, __, ___, increment) {
  return splits.map((at) => {
    const { day, month, hour, minute, second } = parts(at * 1000);
    const midnight = hour === 0 && minute === 0 && second === 0;
    if (increment >= 86400 || midnight) return `${day} ${MONTHS[month - 1]}`;
    return `${two(hour)}:${two(minute)}${increment < 60 ? `:${two(second)}` : ""}`;
  });
}

export const zonedDate = (at) => (zone.value === "local" ? new Date(at * 1000) : uPlot.tzDate(new Date(at * 1000), zone.value));

// Round steps for bytes are powers of two.
const BINARY_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);

export function axis(unit, time) {
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
    for (const [from] of panel.lines ?? []) max = Math.max(max, from);
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

// Spans and moments behind the lines: alerts that fired, deployments. `{ from, to, level, hatch }`, milliseconds.
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const { from, to, level, hatch, faint } of marks ?? []) {
    const left = plot.valToPos(from / 1000, "x", true);
    const right = Math.max(left + ratio, plot.valToPos(to / 1000, "x", true));
    if (right < bbox.left || left > bbox.left + bbox.width) continue;
    if (hatch) {
      ctx.strokeStyle = color("--text-faint", 0.35);
      ctx.lineWidth = ratio;
      ctx.beginPath();
      for (let x = left - bbox.height; x < right; x += 7 * ratio) {
        ctx.moveTo(Math.max(left, x), bbox.top + bbox.height - Math.max(0, left - x));
        ctx.lineTo(Math.min(right, x + bbox.height), bbox.top + Math.max(0, x + bbox.height - right));
      }
      ctx.stroke();
      continue;
    }
    ctx.fillStyle = color(`--${level ?? "accent"}`, faint ? 0.04 : 0.1);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.fillStyle = color(`--${level ?? "accent"}`, 0.7);
    ctx.fillRect(left, bbox.top, Math.max(ratio, right - left), 2 * ratio);
    if (!faint || to === from) ctx.fillRect(left, bbox.top, ratio, bbox.height);
  }
  ctx.restore();
}

// Fills the tip beside the crosshair: the time, and the values nearest to the pointer, in the chart's own order.
function fillTip(tip, plot, shown) {
  const { names, values, unit, decimals, marks } = shown.current;
  const { idx, left, top } = plot.cursor;
  const own = plot.over.matches(":hover");
  tip.hidden = idx === null || idx === undefined || left < 0 || !own;
  if (tip.hidden) return;
  const lines = names
    .map((name, i) => ({ name, i, value: values[i + 1]?.[idx], at: plot.data[i + 1]?.[idx] }))
    .filter(({ value, i }) => value !== null && value !== undefined && plot.series[i + 1]?.show);
  const pointer = plot.posToVal(top, "y");
  if (lines.length > TIPS_MAX) lines.sort((a, b) => Math.abs(a.at - pointer) - Math.abs(b.at - pointer));
  const chosen = lines.slice(0, TIPS_MAX).sort((a, b) => b.at - a.at);
  const head = document.createElement("div");
  head.className = "tip-time";
  head.textContent = stamp(plot.data[0][idx] * 1000);
  const rows = chosen.map(({ name, i, value }) => {
    const row = document.createElement("div");
    row.className = "tip-row";
    const mark = document.createElement("i");
    mark.style.background = shown.current.colorOf(i);
    const label = document.createElement("span");
    label.textContent = name;
    const figure = document.createElement("b");
    figure.textContent = number(value, unit, decimals);
    row.append(mark, label, figure);
    return row;
  });
  if (lines.length > TIPS_MAX) {
    const more = document.createElement("div");
    more.className = "tip-more";
    more.textContent = `and ${lines.length - TIPS_MAX} more`;
    rows.push(more);
  }
  const at = plot.data[0][idx] * 1000;
  const near = plot.posToVal(6, "x") - plot.posToVal(0, "x");
  for (const mark of (marks ?? []).filter((mark) => mark.title && at >= mark.from - near * 1000 && at <= mark.to + near * 1000).slice(0, 4)) {
    const line = document.createElement("div");
    line.className = "tip-mark";
    line.dataset.level = mark.level ?? "";
    line.textContent = mark.title;
    rows.push(line);
  }
  tip.replaceChildren(head, ...rows);
  const width = plot.over.clientWidth;
  const x = plot.over.offsetLeft + (left > width / 2 ? left - tip.offsetWidth - 14 : left + 14);
  tip.style.left = `${Math.max(0, x)}px`;
  tip.style.top = `${Math.max(0, Math.min(top, plot.over.clientHeight - tip.offsetHeight))}px`;
}

function options(panel, shape, shown, size, tip) {
  const { names, hidden, ghosts } = shape;
  const fill = (i) => {
    if (ghosts?.[i] || panel.band?.includes(i)) return undefined;
    return panel.stack ? seriesColor(i, 0.35) : names.length === 1 && !panel.band ? seriesColor(i, 0.1) : undefined;
  };
  const stackBands = () => names.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })).filter((_, i) => !ghosts?.[i + 1]);
  return {
    ...size,
    tzDate: zonedDate,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: crosshair.key, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { size: 6, width: 1.5 },
      focus: { prox: 24 },
    },
    focus: { alpha: names.length > 1 && !panel.stack ? 0.35 : 1 },
    scales: { x: { time: true }, y: panel.log ? { distr: 3 } : { range: bounds(panel) } },
    axes: [axis("", true), axis(panel.unit, false)],
    series: [
      {},
      ...names.map((name, i) => ({
        label: name,
        show: !hidden?.has(name),
        stroke: shown.current.colorOf(i),
        dash: ghosts?.[i] ? [5, 4] : undefined,
        fill: fill(i),
        width: ghosts?.[i] ? 1.2 : 1.6,
        points: { show: panel.dots && !ghosts?.[i] ? true : false, size: 3 },
      })),
    ],
    bands: panel.band ? [{ series: [panel.band[1] + 1, panel.band[0] + 1], fill: color("--s1", 0.13) }] : panel.stack ? stackBands() : undefined,
    hooks: {
      drawClear: [(plot) => drawMarks(plot, shown.current.marks)],
      draw: [(plot) => drawThresholds(plot, panel.thresholds)],
      setCursor: [(plot) => fillTip(tip, plot, shown)],
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

// `data` as `columns` returns it, one name for each series; `hidden` is a set of names that are not drawn, `ghosts` says
// which series are a comparison, `marks` lie behind the lines, and `handle` is given the plot.
export function Chart({ panel, data, names, hidden, ghosts, marks, height, label, handle }) {
  const frame = useRef();
  const tip = useRef();
  const plot = useRef();
  const shown = useRef({});
  // A ghost has the colour of the series that it is compared with.
  const own = (ghosts ?? []).filter((ghost) => !ghost).length;
  const colorOf = (i) => (ghosts?.[i] ? seriesColor(i - own, 0.55) : seriesColor(i));
  shown.current = { names, values: data, unit: panel.unit, decimals: panel.decimals, marks, colorOf };
  const shape = [names.join("\n"), theme.value, zone.value, panel.stack ?? "", panel.log ?? "", panel.dots ?? "", [...(hidden ?? [])].join("\n"), (ghosts ?? []).join()].join("\n\n");
  const positive = ([times, ...values]) => [times, ...values.map((column) => column.map((value) => (value > 0 ? value : null)))];
  const prepared = () => (panel.stack ? stacked(shown.current.values, ghosts) : panel.log ? positive(shown.current.values) : shown.current.values);

  useLayoutEffect(() => {
    const size = { width: frame.current.clientWidth, height };
    plot.current = new uPlot(options(panel, { names, hidden, ghosts }, shown, size, tip.current), prepared(), frame.current);
    if (handle) handle.current = plot.current;
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

  const drawn = useRef(data);
  useEffect(() => {
    if (drawn.current !== data) plot.current.setData(prepared());
    else plot.current.redraw(false);
    drawn.current = data;
  }, [data, marks]);

  return html`<div class="chart" role="img" aria-label=${label}>
    <div ref=${frame} class="chart-frame"></div>
    <div ref=${tip} class="tip" hidden></div>
  </div>`;
}
