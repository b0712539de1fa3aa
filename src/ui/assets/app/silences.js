// Silences: those that are there, and making or changing one with a look at what it would silence.

import { html, useEffect, useState } from "../vendor/preact.js";
import { plain, post, remove } from "./api.js";
import { matches } from "./alerts.js";
import { Tags } from "./alert-list.js";
import { Dialog } from "./dialog.js";
import { ago, duration, parseDuration, stamp } from "./format.js";
import { Failure, useFetch } from "./page.js";

const POLL = 10000;
const operator = ({ isRegex, isEqual = true }) => (isRegex ? (isEqual ? "=~" : "!~") : isEqual ? "=" : "!=");
const OPERATORS = { "=": [false, true], "!=": [false, false], "=~": [true, true], "!~": [true, false] };

const asText = (matchers) => matchers.map((one) => `${one.name}${operator(one)}${JSON.stringify(one.value)}`).join(", ");

// `a="b", c=~"d.*"` as matchers; undefined when it is not that.
export function parseMatchers(text) {
  const out = [];
  let rest = text.trim();
  while (rest !== "") {
    const found = /^([a-zA-Z_][\w.]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^,\s]+)\s*,?\s*/.exec(rest);
    if (!found) return undefined;
    const [isRegex, isEqual] = OPERATORS[found[2]];
    const value = found[3].startsWith('"') ? found[3].slice(1, -1).replace(/\\(.)/g, "$1") : found[3];
    out.push({ name: found[1], value, isRegex, isEqual });
    rest = rest.slice(found[0].length);
  }
  return out.length > 0 ? out : undefined;
}

// The alerts that the matchers would silence.
function useMatching(matchers) {
  const [state, setState] = useState({});
  const key = JSON.stringify(matchers ?? null);
  useEffect(() => {
    if (!matchers) return setState({});
    const abort = new AbortController();
    const filter = matchers.map((one) => `${one.name}${operator(one)}${JSON.stringify(one.value)}`);
    const timer = setTimeout(() => {
      plain("/api/v2/alerts", { filter }, abort.signal).then(
        (alerts) => setState({ alerts }),
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

export function SilenceForm({ silence, onClose, onDone }) {
  const [text, setText] = useState(silence ? asText(silence.matchers) : "");
  const [length, setLength] = useState("2h");
  const [author, setAuthor] = useState(silence?.createdBy ?? localStorage.getItem("author") ?? "");
  const [comment, setComment] = useState(silence?.comment ?? "");
  const [error, setError] = useState(null);
  const matchers = parseMatchers(text);
  const millis = parseDuration(length);
  const hit = useMatching(matchers);
  const again = silence && silence.status.state !== "expired";
  const save = async (event) => {
    event.preventDefault();
    const body = {
      ...(again ? { id: silence.id } : {}),
      matchers,
      startsAt: again ? silence.startsAt : new Date().toISOString(),
      endsAt: new Date(Date.now() + millis).toISOString(),
      createdBy: author,
      comment,
    };
    try {
      await post("/api/v2/silences", body);
      localStorage.setItem("author", author);
      onDone();
      onClose();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<${Dialog} title=${again ? "Change the silence" : "New silence"} onClose=${onClose} wide=${true}>
    <form class="fields" onSubmit=${save}>
      <label class="field is-wide"><span>Alerts with</span><input value=${text} placeholder='alertname="DiskFull", instance=~"db.*"' aria-invalid=${text !== "" && !matchers} onInput=${(event) => setText(event.target.value)} autofocus /></label>
      <label class="field"><span>For (from now)</span><input value=${length} aria-invalid=${millis === undefined} onInput=${(event) => setLength(event.target.value)} /></label>
      <label class="field"><span>By</span><input value=${author} required autocomplete="name" onInput=${(event) => setAuthor(event.target.value)} /></label>
      <label class="field is-wide"><span>Because</span><input value=${comment} required onInput=${(event) => setComment(event.target.value)} /></label>
      <div class="is-wide" role="status">${!matchers ? html`<p class="faint small">Matchers: name="value", with =, !=, =~ or !~.</p>` : hit.error ? html`<p class="is-error small">${hit.error.message}</p>` : hit.alerts && html`<p class="small">${hit.alerts.length === 0 ? "It matches no alert now." : `It matches ${hit.alerts.length} ${hit.alerts.length === 1 ? "alert" : "alerts"} now:`}</p><ul class="hits scroll">${hit.alerts.slice(0, 50).map((alert) => html`<li><${Tags} labels=${alert.labels} /></li>`)}</ul>`}</div>
      ${error && html`<p class="is-error is-wide" role="alert">${error.message}</p>`}
      <div class="dialog-tools is-wide"><button class="button is-main" disabled=${!matchers || millis === undefined || author === "" || comment === ""}>${again ? "Save" : "Silence"}</button><button type="button" class="button" onClick=${onClose}>Cancel</button></div>
    </form>
  <//>`;
}

export function Silences({ filter }) {
  const { data, error, again } = useFetch("/api/v2/silences", undefined, POLL, plain);
  const [failed, setFailed] = useState(null);
  const [form, setForm] = useState(null);
  const [old, setOld] = useState(false);
  if (error && !data) return html`<${Failure} error=${error} />`;
  if (!data) return html`<div class="skeleton page"></div>`;
  const rank = { active: 0, pending: 1, expired: 2 };
  const expired = data.filter((silence) => silence.status.state === "expired").length;
  const shown = data
    .filter((silence) => old || silence.status.state !== "expired")
    .filter((silence) => matches(filter, [silence.comment, silence.createdBy, ...silence.matchers.flatMap((one) => [one.name, one.value])]))
    .sort((a, b) => rank[a.status.state] - rank[b.status.state] || Date.parse(b.endsAt) - Date.parse(a.endsAt));
  const expire = async (id) => {
    try {
      await remove(`/api/v2/silence/${encodeURIComponent(id)}`);
      setFailed(null);
      again();
    } catch (problem) {
      setFailed(problem);
    }
  };
  return html`<p class="tools"><button class="button is-main" onClick=${() => setForm({})}>New silence</button>
      ${expired > 0 && html`<label class="check"><input type="checkbox" checked=${old} onChange=${(event) => setOld(event.target.checked)} /> ${expired} that ended</label>`}</p>
    ${failed && html`<${Failure} error=${failed} />`}
    ${shown.length === 0 && html`<p class="empty">No silences. Make one here, or from an alert with its Silence button.</p>`}
    <ul class="alerts">${shown.map((silence) => {
      const { state } = silence.status;
      const length = Date.parse(silence.endsAt) - Date.parse(silence.startsAt);
      return html`<li class="alert" key=${silence.id} data-level=${state === "active" ? "ok" : "off"}>
        <div class="alert-main">
          <div class="alert-head"><span class="badge" data-level=${state === "active" ? "ok" : "off"}>${state}</span>
            <span title=${stamp(Date.parse(silence.endsAt))}>${state === "expired" ? "ended" : "ends"} ${ago(Date.parse(silence.endsAt), Date.now())}</span>
            <span class="faint">by ${silence.createdBy}, for ${duration(length)}</span></div>
          <p>${silence.comment}</p>
          <span class="tags">${silence.matchers.map((one) => html`<span class="tag"><span class="faint">${one.name}${operator(one)}</span>${one.value}</span>`)}</span>
        </div>
        <div class="alert-tools"><button class="button is-quiet" onClick=${() => setForm({ silence })}>${state === "expired" ? "Again" : "Change"}</button>${state !== "expired" && html`<button class="button is-quiet" onClick=${() => expire(silence.id)}>End now</button>`}</div>
      </li>`;
    })}</ul>
    ${form && html`<${SilenceForm} silence=${form.silence} onClose=${() => setForm(null)} onDone=${again} />`}`;
}

