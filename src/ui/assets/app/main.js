// The shell: navigation around the page that the address names. Pages other than home are loaded when first opened.

import { html, render, signal, useEffect, useState } from "../vendor/preact.js";
import { get, may, signedIn, whoAmI } from "./api.js";
import { HomePage } from "./home.js";
import { Icon } from "./icons.js";
import * as keyboard from "./keyboard.js";
import { Failure } from "./page.js";
import { Link, place, setParams } from "./router.js";
import * as theme from "./theme.js";
import * as time from "./time.js";

const PAGES = [
  { path: "/", title: "Home", icon: "home", load: async () => HomePage },
  { path: "/dashboards", title: "Dashboards", icon: "boards", load: async () => Boards },
  { path: "/explore", title: "Explore", icon: "explore", load: async () => (await import("./explore.js")).ExplorePage },
  { path: "/alerts", title: "Alerts", icon: "bell", load: async () => (await import("./alerts.js")).AlertsPage },
  { path: "/clicks", title: "Clicks", icon: "click", load: async () => (await import("./clicks.js")).ClicksPage },
  { path: "/status", title: "Status", icon: "status", load: async () => (await import("./status.js")).StatusPage },
];
const ALIASES = { "/graph": "/explore" };

function Boards() {
  const [module, setModule] = useState(null);
  useEffect(() => void import("./dashboards.js").then(setModule), []);
  if (!module) return html`<div class="skeleton page"></div>`;
  const name = decodeURIComponent(place.value.path.slice("/dashboards/".length));
  return name ? html`<${module.DashboardPage} key=${name} name=${name} />` : html`<${module.DashboardList} />`;
}

const firing = signal(0);
async function count() {
  if (!may("query")) return;
  try {
    const { alerts } = await get("/api/v1/alerts");
    firing.value = alerts.filter((alert) => alert.state === "firing").length;
  } catch {
    firing.value = 0;
  }
}

function Navigation({ current }) {
  return html`<nav class="nav" aria-label="Pages">${PAGES.map(
    (page) => html`<${Link} to=${page.path} class="nav-link" current=${page === current}>
      <${Icon} name=${page.icon} /><span>${page.title}</span>
      ${page.path === "/alerts" && firing.value > 0 ? html`<span class="count" aria-label=${`${firing.value} firing`}>${firing.value}</span>` : ""}
    <//>`,
  )}</nav>`;
}

const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

function SignIn() {
  const [Form, setForm] = useState(null);
  useEffect(() => void import("./signin.js").then((module) => setForm(() => module.SignInForm)), []);
  return Form ? html`<${Form} />` : html`<div class="skeleton page"></div>`;
}

function Shell() {
  const path = ALIASES[place.value.path] ?? place.value.path;
  const current = PAGES.find((page) => page.path === path || (page.path !== "/" && path.startsWith(`${page.path}/`))) ?? PAGES[0];
  const [shown, setShown] = useState({ component: HomePage, page: PAGES[0] });
  useEffect(() => {
    let wanted = true;
    current.load().then(
      (component) => wanted && setShown({ component, page: current }),
      () => wanted && setShown({ failed: new Error("the page's file cannot be loaded; reload to get the present version"), page: current }),
    );
    return () => {
      wanted = false;
    };
  }, [current]);
  return html`<a class="skip" href="#main">Skip to the page</a>
    <header class="bar">
      <${Link} to="/" class="brand" title="Campanile"><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M16 1 8.500 9v2h15V9z" /><path fill-rule="evenodd" d="M9.500 12.500h13V29H25v2H7v-2h2.500zm3 8V29h7v-8.500a3.500 3.500 0 0 0-7 0z" /></svg><span>Campanile</span><//>
      <${Navigation} current=${current} />
      <button class="button icon is-quiet is-wide-only" title="Keys (?)" aria-label="Keys" onClick=${() => (keyboard.helpOpen.value = true)}><kbd>?</kbd></button>
      <button class="button icon is-quiet" title=${`Colours: ${theme.choice.value}`} aria-label=${`Colours: ${theme.choice.value}`} onClick=${theme.nextTheme}><${Icon} name=${THEME_ICONS[theme.choice.value]} /></button>
    </header>
    <main id="main" tabindex="-1">
      ${!signedIn.value ? html`<${SignIn} />` : shown.failed ? html`<${Failure} error=${shown.failed} />` : shown.page === current ? html`<${shown.component} />` : html`<div class="skeleton page"></div>`}
    </main>
    <${keyboard.Help} />`;
}

// The address holds the range, so that a link shows what its sender saw.
function keepRangeInAddress() {
  const { from, to } = place.peek().params;
  if (from && to) time.range.value = { from, to };
  let first = true;
  time.range.subscribe(({ from, to }) => {
    if (!first) setParams({ from, to });
    first = false;
  });
}

// A compare-to and a zone of a link that was shared.
function keepCompareInAddress() {
  const { compare } = place.peek().params;
  if (compare) time.compare.value = compare;
  let first = true;
  time.compare.subscribe((value) => {
    if (!first) setParams({ compare: value || undefined });
    first = false;
  });
}

theme.start();
keyboard.start();
keepRangeInAddress();
keepCompareInAddress();
time.start();
// What the reader may do decides what is asked; a slow answer holds nothing up.
await Promise.race([whoAmI(), new Promise((wake) => setTimeout(wake, 150))]);
count();
setInterval(() => document.visibilityState === "visible" && count(), 15000);
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Shell} />`, root);
