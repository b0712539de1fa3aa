// The routing tree, and where an alert would go.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get } from "./api.js";
import { Failure, useFetch } from "./page.js";
import { place, setParams } from "./router.js";
import { Why } from "./why.js";

// `a=b, c="d e"` as labels; undefined when it is neither empty nor that.
export function parseLabels(text) {
  const labels = {};
  let rest = text.trim().replace(/^\{|\}$/g, "");
  while (rest.trim() !== "") {
    const found = /^\s*([a-zA-Z_][\w.]*)\s*=\s*("(?:[^"\\]|\\.)*"|[^,\s]*)\s*(?:,|$|\s)/.exec(rest);
    if (!found) return undefined;
    labels[found[1]] = found[2].startsWith('"') ? found[2].slice(1, -1).replace(/\\(.)/g, "$1") : found[2];
    rest = rest.slice(found[0].length);
  }
  return labels;
}

function useWay(labels) {
  const [state, setState] = useState({});
  const key = labels && JSON.stringify(labels);
  useEffect(() => {
    if (!labels || Object.keys(labels).length === 0) {
      setState({});
      return undefined;
    }
    const abort = new AbortController();
    const filter = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
    const timer = setTimeout(() => {
      get("/api/v1/alertmanager/explain", { filter }, abort.signal).then(
        (data) => setState({ found: data.alerts }),
        (error) => error.name !== "AbortError" && setState({ error }),
      );
    }, 250);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key]);
  return state;
}

function Route({ route, taken, root }) {
  const facts = [`groups by ${route.groupBy.join(", ") || "nothing"}`, `waits ${route.groupWait}`, `again after ${route.repeatInterval}`, route.goesOn && "goes on to the next"].filter(Boolean);
  const off = [...route.mute.map((name) => `not in ${name}`), ...route.active.map((name) => `only in ${name}`)];
  const mine = taken.has(route.key);
  const within = mine || [...taken].some((key) => key.startsWith(`${route.key}/`));
  return html`<li class="branch">
    <div class="branch-box" data-taken=${mine ? "yes" : within ? "through" : undefined}>
      <span class="branch-match">${root ? "all alerts" : route.matchers.length > 0 ? route.matchers.map((one) => html`<code>${one}</code>`) : "all that come here"}</span>
      <b class="branch-to">${route.receiver}</b>
      ${mine && html`<span class="badge" data-level="ok">goes here</span>`}
      <small class="faint">${[...facts, ...off].join(" · ")}</small>
    </div>
    ${route.routes.length > 0 && html`<ul class="branches">${route.routes.map((child) => html`<${Route} key=${child.key} route=${child} taken=${taken} />`)}</ul>`}
  </li>`;
}

export function Routes() {
  const { data, error } = useFetch("/api/v1/alertmanager/routes");
  const text = place.value.params.labels ?? "";
  const labels = parseLabels(text);
  const way = useWay(labels);
  if (error) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const taken = new Set((way.found ?? []).flatMap((one) => one.groups.map((group) => group.route)));
  return html`<section class="block">
      <label class="field is-wide"><span>Where would this alert go?</span>
        <input value=${text} placeholder='alertname=DiskFull, severity=critical, team="data base"' aria-invalid=${labels === undefined} onInput=${(event) => setParams({ labels: event.target.value })} /></label>
      ${labels === undefined && html`<p class="is-error small" role="status">Labels are written name=value, with a comma between them.</p>`}
      ${way.error && html`<${Failure} error=${way.error} />`}
    </section>
    <ul class="branches is-root"><${Route} route=${data.route} taken=${taken} root=${true} /></ul>
    ${(way.found ?? []).map((one) => html`<section class="block"><h2>${one.state === "unknown" ? "An alert with these labels" : "The alert that is there"}</h2><${Why} alert=${one} /></section>`)}`;
}
