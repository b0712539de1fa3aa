// Takes the pictures of the documentation: each page light and dark, wide and on a telephone, four on a sheet.
//
//   BASE=http://127.0.0.1:9490 OUT=docs/images node tests/browser/pictures.mjs [page …]
// The server should have an hour of its host's metrics, an alert that fires, and clicks.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium, loadPlaywright } from "./harness.mjs";

const query = encodeURIComponent;
const PAGES = {
  home: "/",
  dashboard: "/dashboards/host",
  "dashboard-edit": "/dashboards/host?edit=1",
  campanile: "/dashboards/campanile",
  explore: `/explore?expr=${query('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))')}`,
  heatmap: `/explore?tab=heat&expr=${query("sum by (le) (increase(campanile_http_request_seconds_bucket[1m]))")}`,
  tree: `/explore?tab=tree&expr=${query("sum by (mode) (rate(node_cpu_seconds_total[1m])) / 2")}`,
  metrics: "/explore?tab=metrics&metric=node_cpu_seconds_total&find=node_cpu",
  alerts: "/alerts",
  rule: process.env.RULE ? `/alerts/${query(process.env.RULE)}` : "/alerts/HostDiskFillsUp",
  routes: `/alerts?tab=routes&labels=${query("alertname=DiskFull, severity=critical")}`,
  deliveries: "/alerts?tab=deliveries",
  clicks: "/clicks?from=now-3h&to=now",
  "clicks-live": "/clicks?tab=live",
  cardinality: "/status?tab=cardinality",
  status: "/status",
};

const base = process.env.BASE ?? "http://127.0.0.1:9490";
const out = process.env.OUT ?? "docs/images";
const wanted = process.argv.slice(2);
const browser = await loadPlaywright().chromium.launch({ executablePath: chromium(), args: ["--no-sandbox", "--disable-gpu"] });
const folder = await mkdtemp(path.join(tmpdir(), "campanile-pictures-"));

async function shoot(name, address, colorScheme, viewport) {
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  await page.goto(base + address);
  await page.waitForTimeout(2500);
  const file = path.join(folder, `${name}-${colorScheme}-${viewport.width}.png`);
  await page.screenshot({ path: file });
  await context.close();
  return `data:image/png;base64,${(await readFile(file)).toString("base64")}`;
}

try {
  for (const [name, address] of Object.entries(PAGES)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const pictures = [];
    for (const viewport of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) {
      for (const colorScheme of ["light", "dark"]) pictures.push(await shoot(name, address, colorScheme, viewport));
    }
    const [light, dark, narrowLight, narrowDark] = pictures.map((source) => `<img src="${source}">`);
    const file = path.join(folder, "sheet.html");
    const style = "body{margin:0;background:#8a9299}div{display:flex;gap:10px;padding:10px}img{height:480px;display:block}";
    await writeFile(file, `<!doctype html><style>${style}</style><div>${light}${narrowLight}</div><div>${dark}${narrowDark}</div>`);
    const page = await browser.newPage({ viewport: { width: 1020, height: 1000 } });
    await page.goto(`file://${file}`);
    await page.waitForTimeout(200);
    await page.screenshot({ path: path.join(out, `${name}.jpg`), type: "jpeg", quality: 78 });
    await page.close();
    console.log(name);
  }
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true });
}
