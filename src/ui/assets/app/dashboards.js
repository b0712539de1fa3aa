// Dashboards: the list, and one of them with its variables, marks and panels.

import { html, signal, useEffect, useState } from "../vendor/preact.js";
import { substitute, worded } from "./answers.js";
import { get, may, query } from "./api.js";
import { fill, parseDuration } from "./format.js";
import { Icon } from "./icons.js";
import { Failure, PageHead, useFetch } from "./page.js";
import { Panel } from "./panels.js";
import { go, Link, place, setParams } from "./router.js";
import { now, range, refresh, span, stepFor } from "./time.js";
import { Popover, TimePicker } from "./timepicker.js";

const MARKS_MAX = 300;

// Whether charts mark when alerts fired; it stays in this browser.
const marked = signal(localStorage.getItem("marks") !== "off");

// The value that a variable has when the address does not say.
function initial(variable, offered) {
  if (variable.default !== undefined) return variable.default;
  if (variable.free) return "";
  if (variable.all) return ".*";
  return offered[0];
}

const escaped = (text) => text.replace(/[\\^$.|?*+()[\]{}]/g, "\\$&");

// What stands in the query for one choice or several: several are joined by `|`, for use with `=~`.
const joined = (variable, chosen) => (Array.isArray(chosen) ? chosen.map((one) => (chosen.length > 1 ? escaped(one) : one)).join("|") : chosen);

// Values that the variable's pattern takes: their first group, when it has one.
function narrowed(values, pattern) {
  if (!pattern) return values;
  let regex;
  try {
    regex = new RegExp(pattern);
  } catch {
    return values;
  }
  return [...new Set(values.flatMap((value) => regex.exec(value)?.slice(0, 2).at(-1) ?? []))];
}

// The values of all variables, by name; undefined while they are looked for. Each may depend on those before it.
function useVariables(vars) {
  const [offered, setOffered] = useState({});
  const { params } = place.value;
  const values = {};
  for (const variable of vars) {
    const list = variable.options ?? (variable.free ? [] : offered[variable.name]);
    values[variable.name] = joined(variable, params[`var-${variable.name}`]) ?? (list && initial(variable, list));
  }
  // A label's values are looked for again when the range or the variables before it change, not at each refresh.
  const chosen = vars.map(({ name }) => params[`var-${name}`]);
  const key = JSON.stringify([vars.map((variable) => [variable.name, variable.label, variable.from]), range.value, chosen]);
  useEffect(() => {
    const abort = new AbortController();
    const { from, to } = span.value;
    (async () => {
      const found = {};
      const known = { ...values };
      for (const variable of vars.filter((variable) => variable.label)) {
        const selector = substitute(variable.from, known, span.value, 60000);
        const ask = { "match[]": selectors(selector), start: from / 1000, end: to / 1000, limit: 1000 };
        const all = (await get(`/api/v1/label/${encodeURIComponent(variable.label)}/values`, ask, abort.signal)) ?? [];
        found[variable.name] = narrowed(all, variable.regex);
        known[variable.name] ??= initial(variable, found[variable.name]) ?? "";
      }
      setOffered(found);
    })().catch((error) => error.name !== "AbortError" && setOffered(Object.fromEntries(vars.map(({ name }) => [name, []]))));
    return () => abort.abort();
  }, [key]);
  for (const variable of vars) if (values[variable.name] === undefined && offered[variable.name]) values[variable.name] = "";
  return { offered, values };
}

// `a or b` names two selectors: the API takes each by itself.
const selectors = (text) => text.split(/\s+or\s+/);

function VariablePicker({ variable, offered, value }) {
  const name = `var-${variable.name}`;
  const options = variable.options ?? offered ?? [];
  const title = variable.title || variable.name;
  if (variable.free) {
    return html`<label class="variable"><span>${title}</span><input value=${value ?? ""} onChange=${(event) => setParams({ [name]: event.target.value })} /></label>`;
  }
  const raw = place.value.params[name];
  if (variable.multi) {
    const picked = new Set([raw ?? []].flat().filter((one) => one !== ".*"));
    const toggle = (option) => {
      const next = new Set(picked);
      next.has(option) ? next.delete(option) : next.add(option);
      setParams({ [name]: next.size > 0 ? [...next] : undefined });
    };
    const shown = picked.size === 0 ? (value === ".*" ? "All" : value) : [...picked].join(", ");
    return html`<span class="variable"><span>${title}</span><${Popover} label=${title} button=${html`<span class="cut">${shown || "–"}</span> <${Icon} name="fold" />`}>
      ${() => html`<div class="checks scroll">${variable.all && html`<label class="check"><input type="checkbox" checked=${picked.size === 0} onChange=${() => setParams({ [name]: undefined })} /> All</label>`}
        ${options.map((option) => html`<label class="check"><input type="checkbox" checked=${picked.has(option)} onChange=${() => toggle(option)} /> ${option}</label>`)}</div>`}
    <//></span>`;
  }
  const shown = value && value !== ".*" && !options.includes(value) ? [value, ...options] : options;
  return html`<label class="variable"><span>${title}</span>
    <select class="button" value=${value ?? ""} onChange=${(event) => setParams({ [name]: event.target.value })}>
      ${variable.all && html`<option value=".*">All</option>`}
      ${shown.map((option) => html`<option value=${option}>${option}</option>`)}
    </select></label>`;
}

// For each value that is chosen of a variable: what a repeated row or panel is shown with.
function repeats(name, board, offered, values) {
  if (!name) return [{ values, key: "" }];
  const variable = board.vars.find((one) => one.name === name);
  const raw = place.value.params[`var-${name}`];
  const options = variable?.options ?? offered[name] ?? [];
  const list = Array.isArray(raw) ? raw : values[name] === ".*" ? options : values[name] === undefined ? [] : [values[name]];
  return list.slice(0, 40).map((value) => ({ values: { ...values, [name]: value }, key: value }));
}

const SEVERITIES = { critical: "bad", page: "bad", error: "bad", warning: "warn", info: "ok" };

// Spans of consecutive points.
function spans(series, step, make) {
  const out = [];
  for (const one of series) {
    let open;
    for (const [at] of one.values) {
      if (open && at * 1000 - open.to <= step * 1.5) open.to = at * 1000;
      else out.push((open = { ...make(one), from: at * 1000, to: at * 1000 }));
    }
  }
  return out.slice(0, MARKS_MAX);
}

// When alerts fired, and the dashboard's own marks.
function useMarks(board, values) {
  const [marks, setMarks] = useState([]);
  const { from, to } = span.value;
  const ready = Object.values(values).every((value) => value !== undefined);
  const minute = Math.floor(to / 60000);
  const key = JSON.stringify([board.title, board.annotations, values, range.value, minute, marked.value]);
  useEffect(() => {
    if (!marked.value || !ready) {
      setMarks([]);
      return undefined;
    }
    const abort = new AbortController();
    const step = stepFor({ from, to }, 900);
    const ask = async (expr, make) => {
      const answer = await query("/api/v1/query_range", { query: expr, start: from / 1000, end: to / 1000, step: step / 1000 }, abort.signal);
      return spans(answer.result ?? [], step, make);
    };
    const fired = ask('ALERTS{alertstate="firing"}', ({ metric }) => ({ title: metric.alertname, faint: true, level: SEVERITIES[metric.severity] ?? "bad" }));
    const own = (board.annotations ?? []).map(({ title, query: text, legend }) =>
      ask(substitute(text, values, { from, to }, step), ({ metric }) => ({ title: `${title} ${legend ? fill(legend, metric) : ""}`.trim(), level: "accent" })),
    );
    Promise.allSettled([fired, ...own]).then((all) => !abort.signal.aborted && setMarks(all.flatMap((one) => one.value ?? [])));
    return () => abort.abort();
  }, [key, ready]);
  return marks;
}

function RowOf({ row, id, board, offered, values, marks }) {
  const [folded, setFolded] = useState(row.folded ?? false);
  const title = worded(row.title, values);
  return html`<section class="row" aria-label=${title || undefined}>
    ${title && html`<h2><button class="row-head" aria-expanded=${!folded} onClick=${() => setFolded(!folded)}><${Icon} name="fold" />${title}</button></h2>`}
    ${!folded &&
    html`<div class="grid">${row.panels.flatMap((panel, j) =>
      repeats(panel.repeat, board, offered, values).map(
        (one) => html`<${Panel} key=${`${j} ${one.key}`} id=${`${id}.${j}${one.key && `.${one.key}`}`} panel=${panel} values=${one.values} marks=${marks} />`,
      ),
    )}</div>`}
  </section>`;
}

// All rows with what they are repeated for.
const rowsOf = (board, offered, values) =>
  board.rows.flatMap((row, i) => repeats(row.repeat, board, offered, values).map((one) => ({ row, id: `${i}${one.key && `-${one.key}`}`, values: one.values })));

function Notes({ notes }) {
  return html`<${Popover} class="button is-quiet" label="What could not be taken over" button=${html`<span class="badge" data-level="warn">${notes.length} not taken over</span>`}>
    ${() => html`<p class="popover-title">Read from Grafana's format. Not taken over:</p><ul class="notes scroll">${notes.map((note) => html`<li>${note}</li>`)}</ul>`}
  <//>`;
}

// The panels of a dashboard, below its variables and the time picker. `name` is absent in a preview.
export function Board({ board, name, lead, tools }) {
  const { offered, values } = useVariables(board.vars);
  useEffect(() => {
    if (!place.peek().params.from) range.value = { from: `now-${board.range}`, to: "now" };
    refresh.value = parseDuration(board.refresh) ?? 15000;
    now.value = Date.now();
  }, [board.title, board.range, board.refresh]);
  const marks = useMarks(board, values);
  const { panel: alone, kiosk } = place.value.params;
  const rows = rowsOf(board, offered, values);
  const single = alone && rows.flatMap(({ row, id, values: own }) =>
    row.panels.flatMap((panel, j) => repeats(panel.repeat, board, offered, own).map((one) => ({ panel, id: `${id}.${j}${one.key && `.${one.key}`}`, values: one.values }))),
  ).find((one) => one.id === alone);
  return html`<${PageHead} title=${board.title} hint=${kiosk ? "" : board.description}>
      ${board.vars.map((variable) => html`<${VariablePicker} key=${variable.name} variable=${variable} offered=${offered[variable.name]} value=${values[variable.name]} />`)}
      ${board.notes?.length > 0 && html`<${Notes} notes=${board.notes} />`}
      <${TimePicker} comparable=${true} />
      <div class="joined">
        <button class="button icon" aria-pressed=${marked.value} title="Mark when alerts fired" aria-label="Mark when alerts fired" onClick=${() => ((marked.value = !marked.value), localStorage.setItem("marks", marked.value ? "on" : "off"))}><${Icon} name="bell" /></button>
        <button class="button icon" title="Full screen" aria-label="Full screen" onClick=${toggleFull}><${Icon} name="full" /></button>
        ${name && html`<${Link} to=${`/dashboards/${name}`} params=${{ edit: "1" }} class="button icon" title="Edit" label="Edit"><${Icon} name="edit" /><//>`}
      </div>
      ${tools}
    <//>
    ${!alone && lead}
    ${single
      ? html`<p class="crumbs"><button class="linklike" onClick=${() => setParams({ panel: undefined })}>Back to the dashboard</button></p><${Panel} key=${single.id} ...${single} marks=${marks} alone=${true} />`
      : rows.map((one) => html`<${RowOf} key=${one.id} ...${one} board=${board} offered=${offered} marks=${marks} />`)}`;
}

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.();
}

function Editing({ name }) {
  const [Page, setPage] = useState(null);
  useEffect(() => void import("./dashedit.js").then((module) => setPage(() => module.EditPage)), []);
  return Page ? html`<${Page} name=${name} />` : html`<div class="skeleton page"></div>`;
}

export function DashboardPage({ name, lead }) {
  if (place.value.params.edit && !lead) return html`<${Editing} name=${name} />`;
  return html`<${Shown} name=${name} lead=${lead} />`;
}

function Shown({ name, lead }) {
  const { data, error } = useFetch(`/api/v1/dashboards/${encodeURIComponent(name)}`);
  if (error) return html`${lead}<${Failure} error=${error} />`;
  return data ? html`<${Board} key=${name} board=${data} name=${name} lead=${lead} />` : html`${lead}<div class="skeleton page"></div>`;
}

const ORIGINS = { builtin: "shipped", file: "yours", grafana: "from Grafana" };

export function DashboardList() {
  const { data, error } = useFetch("/api/v1/dashboards");
  if (place.value.params.edit) return html`<${Editing} />`;
  if (error) return html`<${Failure} error=${error} />`;
  const wanted = (place.value.params.filter ?? "").toLowerCase();
  const shown = (data ?? []).filter((board) => `${board.title} ${board.description} ${board.name}`.toLowerCase().includes(wanted));
  return html`<${PageHead} title="Dashboards" hint="YAML or Grafana JSON, from the folders that the configuration names.">
      <input type="search" placeholder="Filter" aria-label="Filter" value=${place.value.params.filter ?? ""} onInput=${(event) => setParams({ filter: event.target.value })} />
      ${may("query") && html`<button class="button" onClick=${() => go("/dashboards", { edit: "1" })}>New or import</button>`}
    <//>
    <ul class="cards">${shown.map(
      (board) => html`<li key=${board.name}><${Link} to=${`/dashboards/${board.name}`} class="card">
        <b>${board.title}</b><span>${board.description}</span><small class="faint">${board.panels} panels · ${ORIGINS[board.origin] ?? ""}${board.notes > 0 ? ` · ${board.notes} not taken over` : ""}</small>
      <//></li>`,
    )}</ul>
    ${data && shown.length === 0 ? html`<p class="empty">No dashboard matches.</p>` : ""}`;
}
