// What the browser tests need around them: a server with a configuration, a Chromium, and a list of what failed.

import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

export function skip(reason) {
  if (process.env.CAMPANILE_REQUIRE_ALL === "1") throw new Error(reason);
  console.log(`skipped: ${reason}`);
  process.exit(0);
}

export function loadPlaywright() {
  try {
    return createRequire(path.join(process.env.NODE_PATH ?? process.cwd(), "_.js"))("playwright-core");
  } catch {
    try {
      return createRequire(import.meta.url)("playwright-core");
    } catch {
      return skip("the npm package playwright-core is not installed");
    }
  }
}

export function chromium() {
  const names = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean);
  const folders = (process.env.PATH ?? "").split(":");
  const candidates = names.flatMap((name) => (name.includes("/") ? [name] : folders.map((folder) => path.join(folder, name))));
  return candidates.find(exists) ?? skip("there is no chromium");
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

export async function until(what, check, millis = 20000) {
  const end = Date.now() + millis;
  for (;;) {
    const found = await check().catch(() => false);
    if (found) return found;
    if (Date.now() > end) throw new Error(`in ${millis} ms it did not happen: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

// Starts the binary with files beside its configuration (`{ name: text }`, `campanile.yaml` among them).
export async function startServer(files) {
  const binary = process.env.CAMPANILE_BIN ?? "target/debug/campanile";
  if (!exists(binary)) skip(`there is no ${binary}`);
  const folder = await mkdtemp(path.join(tmpdir(), "campanile-browser-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.join(folder, path.dirname(name)), { recursive: true });
    await writeFile(path.join(folder, name), text);
  }
  const port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  const args = ["serve", "--config", path.join(folder, "campanile.yaml"), "--listen", `127.0.0.1:${port}`, "--data-dir", path.join(folder, "data")];
  if (process.env.UI_DIR) args.push("--ui-dir", process.env.UI_DIR);
  const child = spawn(binary, args, { stdio: ["ignore", "ignore", "pipe"] });
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
    folder,
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export const failures = [];
export function check(what, holds, detail = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds ? "" : ` ${detail}`}`);
  if (!holds) failures.push(what);
}

// Opens a page and writes down whatever it should not do; `answers` has the path and status of each answer of the API.
export async function open(context, base, address) {
  const page = await context.newPage();
  const wrong = [];
  const answers = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${base}/`) && !url.startsWith("data:")) wrong.push(`left the origin: ${url}`);
  });
  page.on("response", (response) => {
    const { pathname } = new URL(response.url());
    if (pathname.startsWith("/api/")) answers.push({ pathname, status: response.status() });
  });
  page.on("console", (message) => {
    if (/content security policy/i.test(message.text())) wrong.push(message.text());
  });
  await page.goto(base + address);
  await page.locator("main .page-head, main .signin").first().waitFor();
  return { page, wrong, answers };
}

// Whether a canvas has more on it than its background.
export const drawn = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("main canvas")].some((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let inked = 0;
      for (let i = 3; i < data.length; i += 4) inked += data[i] > 0;
      return inked > 500;
    }),
  );

// Whether something that was sent became part of the page: an element, a handler, an address that is no page's.
export const injected = (page) =>
  page.evaluate(
    () =>
      window.hacked !== undefined ||
      document.querySelector("main img, main script, main iframe, main object, [onerror], [onload], [onclick]") !== null ||
      [...document.querySelectorAll("a[href]")].some((link) => !/^https?:$/.test(link.protocol)),
  );
