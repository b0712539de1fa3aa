// Light and dark: the system's choice, or the reader's. Colours come from the style sheet, where each is declared once.

import { signal } from "../vendor/preact.js";

const SERIES = 10;
const system = matchMedia("(prefers-color-scheme: dark)");
const stored = localStorage.getItem("theme");

// `auto`, `light` or `dark`.
export const choice = signal(stored === "light" || stored === "dark" ? stored : "auto");
// What is shown now: charts are drawn anew when it changes.
export const theme = signal("");
const known = new Map();

function apply() {
  document.documentElement.dataset.theme = choice.value;
  known.clear();
  theme.value = choice.value === "auto" ? (system.matches ? "dark" : "light") : choice.value;
}

export function start() {
  system.addEventListener("change", apply);
  choice.subscribe(apply);
}

export function nextTheme() {
  choice.value = { auto: "dark", dark: "light", light: "auto" }[choice.value];
  localStorage.setItem("theme", choice.value);
}

// The present value of a colour of the style sheet, for canvases.
export function color(name, alpha = 1) {
  const key = name + alpha;
  if (!known.has(key)) {
    const probe = document.createElement("i");
    probe.style.color = alpha === 1 ? `var(${name})` : `color-mix(in srgb, var(${name}) ${alpha * 100}%, transparent)`;
    document.body.append(probe);
    known.set(key, getComputedStyle(probe).color);
    probe.remove();
  }
  return known.get(key);
}

export const seriesColor = (index, alpha = 1) => color(`--s${(index % SERIES) + 1}`, alpha);
