// Keys for those who keep their hands on them. `?` lists them.

import { html, signal } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";
import { go } from "./router.js";
import { nextTheme } from "./theme.js";
import { again, back, setRange, shift } from "./time.js";

export const helpOpen = signal(false);

const PAGES = { h: "/", d: "/dashboards", e: "/explore", a: "/alerts", c: "/clicks", s: "/status" };
const KEYS = [
  ["g h", "Home"],
  ["g d", "Dashboards"],
  ["g e", "Explore"],
  ["g a", "Alerts"],
  ["g c", "Clicks"],
  ["g s", "Status"],
  ["/", "to the query or the filter"],
  ["r", "ask for everything anew"],
  ["←  →", "earlier, later"],
  ["−  +", "zoom out, zoom in"],
  ["Backspace", "back to the range before"],
  ["t", "light, dark, or as the system"],
  ["f", "full screen"],
  ["?", "this list"],
];

let leader = -Infinity;

function zoomIn() {
  import("./time.js").then(({ span }) => {
    const { from, to } = span.peek();
    const quarter = (to - from) / 4;
    setRange(String(Math.round(from + quarter)), String(Math.round(to - quarter)));
  });
}

const ACTIONS = {
  r: again,
  t: nextTheme,
  ArrowLeft: () => shift(-1),
  ArrowRight: () => shift(1),
  "-": () => shift(0),
  "+": zoomIn,
  Backspace: back,
  "?": () => (helpOpen.value = true),
  f: () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.()),
  "/": () => document.querySelector('main textarea[role="combobox"], main input[type="search"]')?.focus(),
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const { target } = event;
  if (target.closest?.("input, textarea, select, [contenteditable], dialog, [role=menu], [role=dialog]")) return;
  if (event.key === "g") {
    leader = event.timeStamp;
    return;
  }
  if (event.timeStamp - leader < 1200 && PAGES[event.key]) {
    leader = -Infinity;
    event.preventDefault();
    go(PAGES[event.key]);
    return;
  }
  // A focused scroll frame or tab list keeps its arrows.
  if (event.key.startsWith("Arrow") && target !== document.body && target.closest?.(".scroll, [role=tablist], .config")) return;
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// Arrow keys move within a list of tabs, as screen readers announce.
function tabs(event) {
  const list = event.target.closest?.("[role=tablist]");
  const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!list || !move) return;
  const all = [...list.querySelectorAll("[role=tab]")];
  const next = all[(all.indexOf(event.target) + move + all.length) % all.length];
  next?.focus();
  next?.click();
}

export function start() {
  addEventListener("keydown", press);
  addEventListener("keydown", tabs);
}

export function Help() {
  if (!helpOpen.value) return null;
  return html`<${Dialog} title="Keys" onClose=${() => (helpOpen.value = false)}>
    <dl class="keys">${KEYS.map(([key, what]) => html`<div><dt>${key.split(/\s+/).map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    <p class="faint small">In a chart: drag to zoom, double-click to go back. In a legend: click shows one alone, Ctrl or ⌘ hides one.</p>
  <//>`;
}
