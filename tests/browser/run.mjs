// Drives the page in a real Chromium against the real binary: charts are drawn, the query box works, hostile labels stay
// text, nothing leaves the origin, and the content security policy is never touched.
//
// Needs node, `chromium` and the npm package `playwright-core` (found through NODE_PATH). Without them it says so and ends
// well, unless CAMPANILE_REQUIRE_ALL=1.
//   CAMPANILE_BIN   the binary, default target/debug/campanile
//   BASE            a server that runs already, instead of starting one
//   SCREENSHOTS     a folder for pictures of every page, light and dark, wide and narrow

import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { push } from "./remote_write.mjs";

const HOSTILE = `<img src=x onerror="window.hacked=1">'"</script><script>window.hacked=2</script>`;
const PAGES = {
  home: "/",
  dashboards: "/dashboards",
  campanile: "/dashboards/campanile",
  explore: `/explore?expr=${encodeURIComponent('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))')}`,
  table: `/explore?tab=table&expr=${encodeURIComponent("browser_test_level")}`,
  alerts: "/alerts",
  silences: "/alerts?tab=silences",
  status: "/status",
};

function skip(reason) {
  if (process.env.CAMPANILE_REQUIRE_ALL === "1") throw new Error(reason);
  console.log(`skipped: ${reason}`);
  process.exit(0);
}

function load() {
  try {
    return createRequire(path.join(process.env.NODE_PATH ?? process.cwd(), "_.js"))("playwright-core");
  } catch {
    return createRequire(import.meta.url)("playwright-core");
  }
}

function chromium() {
  const names = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean);
  const folders = (process.env.PATH ?? "").split(":");
  const candidates = names.flatMap((name) => (name.includes("/") ? [name] : folders.map((folder) => path.join(folder, name))));
  return candidates.find(exists);
}

function exists(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

async function until(what, check, millis = 20000) {
  const end = Date.now() + millis;
  for (;;) {
    const found = await check().catch(() => false);
    if (found) return found;
    if (Date.now() > end) throw new Error(`in ${millis} ms it did not happen: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

async function startServer() {
  if (process.env.BASE) return { base: process.env.BASE, stop: async () => {} };
  const binary = process.env.CAMPANILE_BIN ?? "target/debug/campanile";
  if (!exists(binary)) skip(`there is no ${binary}`);
  const folder = await mkdtemp(path.join(tmpdir(), "campanile-browser-"));
  const port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  const child = spawn(binary, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", folder], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (text) => (log = (log + text).slice(-4000)));
  const ended = new Promise((end) => child.once("exit", end));
  try {
    await until("the server is ready", async () => (await fetch(`${base}/-/ready`)).ok);
  } catch (error) {
    child.kill("SIGKILL");
    throw new Error(`${error.message}\n${log}`);
  }
  return {
    base,
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

// Ten minutes of samples, among them labels that a page must not take for markup.
async function fill(base) {
  const now = Math.floor(Date.now() / 15000) * 15000;
  const times = Array.from({ length: 40 }, (_, i) => now - (39 - i) * 15000);
  const course = (level) => times.map((at, i) => [at, level + Math.sin(i / 5)]);
  await push(base, [
    { labels: { __name__: "browser_test_level", job: "browser", evil: HOSTILE }, samples: course(5) },
    { labels: { __name__: "browser_test_level", job: "browser", evil: "tame" }, samples: course(3) },
  ]);
}

const failures = [];
function check(what, holds, detail = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds ? "" : ` ${detail}`}`);
  if (!holds) failures.push(what);
}

// Opens a page and writes down whatever it should not do.
async function open(context, base, address) {
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${base}/`) && !url.startsWith("data:")) wrong.push(`left the origin: ${url}`);
  });
  page.on("console", (message) => {
    if (/content security policy/i.test(message.text())) wrong.push(message.text());
  });
  await page.goto(base + address);
  await page.locator("main .page-head").first().waitFor();
  return { page, wrong };
}

// Whether a canvas has more on it than its background.
const drawn = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("main canvas")].some((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let inked = 0;
      for (let i = 3; i < data.length; i += 4) inked += data[i] > 0;
      return inked > 500;
    }),
  );

const injected = (page) => page.evaluate(() => window.hacked !== undefined || document.querySelector("main img, main script") !== null);

async function everyPage(browser, base) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) {
      const context = await browser.newContext({ viewport, colorScheme });
      for (const [name, address] of Object.entries(PAGES)) {
        const { page, wrong } = await open(context, base, address);
        await page.waitForLoadState("networkidle");
        const title = `${name}, ${colorScheme}, ${viewport.width} px`;
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        check(`${title}: nothing foreign, nothing refused, no error`, wrong.length === 0, wrong.join("; "));
        check(`${title}: fits its width`, wide <= 0, `${wide} px too wide`);
        check(`${title}: no label became markup`, !(await injected(page)));
        if (process.env.SCREENSHOTS) await page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}-${colorScheme}-${viewport.width}.png`) });
        await page.close();
      }
      await context.close();
    }
  }
}

async function homeDraws(context, base) {
  const { page } = await open(context, base, "/");
  await until("a chart is drawn on the home page", () => drawn(page), 45000);
  check("the home page draws charts", true);
  await page.close();
}

async function exploring(context, base) {
  const { page, wrong } = await open(context, base, "/explore");
  const box = page.getByRole("combobox", { name: "PromQL query" });
  await box.click();
  await page.keyboard.type("browser_test_lev");
  await page.locator(".offer li").first().waitFor();
  check("metric names are completed", (await page.locator(".offer li").first().textContent()).startsWith("browser_test_level"));
  await page.keyboard.press("Enter");
  check("Enter takes the completion", (await box.inputValue()) === "browser_test_level");
  await page.keyboard.press("Enter");
  await until("the graph is drawn", () => drawn(page));
  check("a query is drawn", true);
  const legend = await page.locator(".legend-name").allTextContents();
  check("hostile labels are shown as text", legend.some((name) => name.includes("<img src=x")), legend.join(" | "));
  const canvas = await page.locator(".u-over").boundingBox();
  await page.mouse.move(canvas.x + canvas.width - 40, canvas.y + 60);
  await page.locator(".tip-row").first().waitFor();
  check("the tip shows hostile labels as text", (await page.locator(".tip").textContent()).includes("<img src=x"));
  await page.getByRole("tab", { name: "Table" }).click();
  await page.locator("table.table tbody tr").first().waitFor();
  check("the table has both series", (await page.locator("table.table tbody tr").count()) === 2);
  check("no label became markup", !(await injected(page)));

  await box.fill("sum(browser_test_level browser)");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await page.locator(".failure pre").waitFor();
  const shown = await page.locator(".failure").textContent();
  check("an error names its place and points at it", /1:\d+: parse error/.test(shown) && shown.includes("^"), shown);
  check("exploring did nothing foreign", wrong.length === 0, wrong.join("; "));
  await page.close();
}

async function zooming(context, base) {
  const { page } = await open(context, base, "/explore?expr=browser_test_level&from=now-15m&to=now");
  await until("the graph is drawn", () => drawn(page));
  const canvas = await page.locator(".u-over").boundingBox();
  await page.mouse.move(canvas.x + canvas.width * 0.4, canvas.y + 80);
  await page.mouse.down();
  await page.mouse.move(canvas.x + canvas.width * 0.8, canvas.y + 80, { steps: 5 });
  await page.mouse.up();
  await until("the address holds the range", async () => /from=\d{13}&to=\d{13}/.test(page.url()));
  check("dragging zooms, and the address says so", true);
  await page.close();
}

let playwright;
try {
  playwright = load();
} catch {
  skip("the npm package playwright-core is not installed");
}
const executablePath = chromium();
if (!executablePath) skip("there is no chromium");
const server = await startServer();
const browser = await playwright.chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  await fill(server.base);
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  await exploring(context, server.base);
  await zooming(context, server.base);
  await homeDraws(context, server.base);
  await everyPage(browser, server.base);
} finally {
  await browser.close();
  await server.stop();
}
console.log(failures.length === 0 ? "all well" : `${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
