// Dashboards: the list, and one of them with its variables and panels.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get } from "./api.js";
import { parseDuration } from "./format.js";
import { Panel, substitute } from "./panels.js";
import { Link, place, setParams } from "./router.js";
import { now, range, refresh, span } from "./time.js";
import { TimePicker } from "./timepicker.js";
import { Failure, PageHead, useFetch } from "./page.js";

// The value that a variable has when the address does not say.
function initial(variable, offered) {
  if (variable.default !== undefined) return variable.default;
  if (variable.all) return ".*";
  return offered[0];
}

// The values of all variables, by name; undefined while they are looked for. Each may depend on those before it.
function useVariables(vars) {
  const [offered, setOffered] = useState({});
  const { params } = place.value;
  const values = {};
  for (const variable of vars) {
    const list = variable.options ?? offered[variable.name];
    const chosen = params[`var-${variable.name}`];
    values[variable.name] = chosen ?? (list && initial(variable, list));
  }
  // A label's values are looked for again when the range or the variables before it change, not at each refresh.
  const key = JSON.stringify([vars.map((variable) => variable.name), range.value, params]);
  useEffect(() => {
    const abort = new AbortController();
    const { from, to } = span.value;
    (async () => {
      const found = {};
      const known = { ...values };
      for (const variable of vars.filter((variable) => variable.label)) {
        const selector = substitute(variable.from, known, span.value, 60000);
        const ask = { "match[]": selectors(selector), start: from / 1000, end: to / 1000, limit: 1000 };
        found[variable.name] = (await get(`/api/v1/label/${encodeURIComponent(variable.label)}/values`, ask, abort.signal)) ?? [];
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
  const options = variable.options ?? offered ?? [];
  const shown = value && value !== ".*" && !options.includes(value) ? [value, ...options] : options;
  return html`<label class="variable"><span>${variable.title || variable.name}</span>
    <select class="button" value=${value ?? ""} onChange=${(event) => setParams({ [`var-${variable.name}`]: event.target.value })}>
      ${variable.all && html`<option value=".*">All</option>`}
      ${shown.map((option) => html`<option value=${option}>${option}</option>`)}
    </select></label>`;
}

// The panels of a dashboard, below its variables and the time picker.
export function Board({ board, lead }) {
  const { offered, values } = useVariables(board.vars);
  useEffect(() => {
    if (!place.peek().params.from) range.value = { from: `now-${board.range}`, to: "now" };
    refresh.value = parseDuration(board.refresh) ?? 15000;
    now.value = Date.now();
  }, [board.title]);
  return html`<${PageHead} title=${board.title} hint=${board.description}>
      ${board.vars.map((variable) => html`<${VariablePicker} variable=${variable} offered=${offered[variable.name]} value=${values[variable.name]} />`)}
      <${TimePicker} />
    <//>
    ${lead}
    ${board.rows.map(
      (row, i) => html`<div class="row" key=${i}>
        ${row.title && html`<h2>${row.title}</h2>`}
        <div class="grid">${row.panels.map((panel, j) => html`<${Panel} key=${`${board.title} ${i} ${j}`} panel=${panel} values=${values} />`)}</div>
      </div>`,
    )}`;
}

export function DashboardPage({ name, lead }) {
  const { data, error } = useFetch(`/api/v1/dashboards/${encodeURIComponent(name)}`);
  if (error) return html`<${Failure} error=${error} />`;
  return data ? html`<${Board} key=${name} board=${data} lead=${lead} />` : html`<div class="skeleton page"></div>`;
}

export function DashboardList() {
  const { data, error } = useFetch("/api/v1/dashboards");
  if (error) return html`<${Failure} error=${error} />`;
  return html`<${PageHead} title="Dashboards" hint="Written in YAML, in the folder that the configuration names." />
    <ul class="cards">${(data ?? []).map(
      (board) => html`<li key=${board.name}><${Link} to=${`/dashboards/${board.name}`} class="card">
        <b>${board.title}</b><span>${board.description}</span><small class="faint">${board.panels} panels</small>
      <//></li>`,
    )}</ul>`;
}
