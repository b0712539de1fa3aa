// A panel on the grid: its heading, its menu, and its body once it is in sight.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { substitute, useAnswers, worded } from "./answers.js";
import { Body } from "./bodies.js";
import { Menu, download } from "./dialog.js";
import { ago } from "./format.js";
import { go, place, prefixed } from "./router.js";
import { now, range, span, stepFor } from "./time.js";

const CHART_HEIGHT = 210;

// Whether the element was ever in sight.
function useSeen(ref) {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true),
      { rootMargin: "200px" },
    );
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return seen;
}

const quoted = (text) => (/[",\n\r]/.test(text) || /^[=+\-@\t]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);

// The points as CSV: a line for each time, a column for each series. A cell that a spreadsheet would take for a formula is
// led by an apostrophe.
export function csv(series) {
  const tame = (text) => quoted(/^[=+\-@\t]/.test(text) ? `'${text}` : text);
  const times = [...new Set(series.flatMap((one) => one.values.map(([at]) => at)))].sort((a, b) => a - b);
  const by = series.map((one) => new Map(one.values));
  const head = ["time", ...series.map((one) => tame(one.name))];
  const lines = times.map((at) => [new Date(at * 1000).toISOString(), ...by.map((values) => values.get(at) ?? "")]);
  return [head, ...lines].map((line) => line.join(",")).join("\r\n") + "\r\n";
}

// The chart as a picture, with its title above.
function picture(plot, title, name) {
  const source = plot.ctx.canvas;
  const ratio = devicePixelRatio || 1;
  const canvas = document.createElement("canvas");
  const top = 40 * ratio;
  [canvas.width, canvas.height] = [source.width, source.height + top + 6 * ratio];
  const ctx = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  ctx.fillStyle = getComputedStyle(plot.root.closest(".panel") ?? document.body).backgroundColor;
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = style.color;
  ctx.font = `600 ${14 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.fillText(title, 12 * ratio, 25 * ratio);
  ctx.drawImage(source, 0, top);
  canvas.toBlob((blob) => blob && download(name, "image/png", blob), "image/png");
}

const fileName = (title) => (title || "panel").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "panel";

function useAlertDialog() {
  const [Dialog, setDialog] = useState(null);
  const open = async () => {
    const module = await import("./alert-on.js");
    setDialog(() => module.AlertOn);
  };
  return [Dialog, open, () => setDialog(null)];
}

// One panel. `id` is its place on the dashboard, `alone` says that it fills the page.
export function Panel({ panel, values, marks, id, alone }) {
  const frame = useRef();
  const handle = useRef();
  const [width, setWidth] = useState(0);
  const seen = useSeen(frame);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const answer = useAnswers(panel, values, width, seen);
  const [AlertOn, openAlert, closeAlert] = useAlertDialog();
  const title = worded(panel.title, values);
  const exprs = () => panel.queries.map((one) => substitute(one.query, values, span.peek(), stepFor(span.peek(), width)));
  const params = place.value.params;
  const items = panel.queries.length > 0 && [
    { title: "Explore", run: () => go("/explore", { expr: exprs()[0], from: range.peek().from, to: range.peek().to, ...(exprs().length > 1 ? { more: exprs().slice(1) } : {}) }) },
    id !== undefined && { title: alone ? "Back to the dashboard" : "Full screen", run: () => go(place.peek().path, { ...params, panel: alone ? undefined : id }) },
    { title: "Alert on this", run: openAlert },
    answer.series && { title: "Download CSV", run: () => download(`${fileName(title)}.csv`, "text/csv", csv(answer.series)) },
    answer.series && handle.current && { title: "Download PNG", run: () => picture(handle.current, title, `${fileName(title)}.png`) },
    id !== undefined && { title: "Copy link", run: () => navigator.clipboard?.writeText(location.origin + prefixed(place.peek().path, { ...params, panel: id, from: range.peek().from, to: range.peek().to })) },
  ];
  const height = alone ? Math.max(320, innerHeight - 330) : CHART_HEIGHT;
  return html`<section ref=${frame} class=${`panel${alone ? " is-alone" : ""}`} data-kind=${panel.kind} data-width=${alone ? 12 : panel.width}>
    ${(title || items) &&
    html`<header class="panel-head">
      <h3 title=${panel.description || title}>${title}</h3>
      ${answer.error && answer.series ? html`<span class="panel-stale" role="status" title=${answer.error.message}>not updated${answer.to ? ` since ${ago(answer.to, now.value)}` : ""}</span>` : ""}
      ${answer.warnings?.length > 0 ? html`<span class="panel-warning" title=${answer.warnings.join("\n")} role="note" aria-label=${answer.warnings.join(", ")}>!</span>` : ""}
      ${items ? html`<${Menu} label=${`Menu of ${title || "the panel"}`} items=${items} />` : ""}
    </header>`}
    <div class="panel-body"><${Body} panel=${panel} answer=${answer} values=${values} marks=${marks} height=${height} handle=${handle} /></div>
    ${AlertOn && html`<${AlertOn} title=${title} expr=${exprs()[0]} thresholds=${panel.thresholds} onClose=${closeAlert} />`}
  </section>`;
}

