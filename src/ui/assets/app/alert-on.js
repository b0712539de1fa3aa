// "Alert on this": a rule made from a query, tried at once, to be put into a rule file.

import { html, useEffect, useState } from "../vendor/preact.js";
import { query } from "./api.js";
import { CopyButton, Dialog, download } from "./dialog.js";
import { parseDuration } from "./format.js";

const OPERATORS = [">", ">=", "<", "<=", "==", "!="];
const quoted = (text) => JSON.stringify(text);
const nameOf = (title) => title.replace(/[^A-Za-z0-9]+(.)?/g, (_, next) => (next ?? "").toUpperCase()).replace(/^[^A-Za-z]+/, "") || "MyAlert";

// How many series a condition holds for now.
function useTrial(expr) {
  const [state, setState] = useState({});
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      query("/api/v1/query", { query: expr }, abort.signal).then(
        (answer) => setState({ count: Array.isArray(answer.result) && answer.resultType === "vector" ? answer.result.length : 0 }),
        (error) => error.name !== "AbortError" && setState({ error }),
      );
    }, 300);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [expr]);
  return state;
}

export function AlertOn({ title, expr, thresholds, onClose }) {
  const worst = (thresholds ?? []).find(([, level]) => level === "bad");
  const upward = (thresholds ?? []).at(-1)?.[1] !== "ok";
  const [name, setName] = useState(nameOf(title || "My alert"));
  const [operator, setOperator] = useState(upward ? ">" : "<");
  const [limit, setLimit] = useState(String((upward ? worst?.[0] : thresholds?.[1]?.[0]) ?? 0));
  const [hold, setHold] = useState("5m");
  const [severity, setSeverity] = useState("warning");
  const wrong = !/^[A-Za-z_][\w]*$/.test(name) ? "the name is letters, digits and _" : limit.trim() === "" || Number.isNaN(Number(limit)) ? "the limit is a number" : parseDuration(hold) === undefined && hold !== "0s" ? "how long: 5m, 1h" : "";
  const condition = /^[\w:{}",=~. -]+$/.test(expr) || /^[\w:]+\(.*\)$/.test(expr) ? expr : `(${expr})`;
  const whole = `${condition} ${operator} ${limit}`;
  const trial = useTrial(wrong ? "vector(0)" : whole);
  const yaml = `groups:
- name: ${quoted(title || name)}
  rules:
  - alert: ${name}
    expr: ${quoted(whole)}
    for: ${hold}
    labels:
      severity: ${severity}
    annotations:
      summary: ${quoted(`${title || name} is {{ $value }}`)}
`;
  const field = (label, value, set, more) => html`<label class="field"><span>${label}</span><input value=${value} onInput=${(event) => set(event.target.value)} ...${more ?? {}} /></label>`;
  return html`<${Dialog} title="Alert on this" onClose=${onClose}>
    <div class="fields">
      ${field("Name", name, setName)}
      <label class="field"><span>When it is</span><span class="joined"><select class="button" aria-label="Comparison" value=${operator} onChange=${(event) => setOperator(event.target.value)}>${OPERATORS.map((one) => html`<option>${one}</option>`)}</select><input aria-label="Limit" inputmode="decimal" value=${limit} onInput=${(event) => setLimit(event.target.value)} /></span></label>
      ${field("For at least", hold, setHold)}
      <label class="field"><span>Severity</span><select class="button" value=${severity} onChange=${(event) => setSeverity(event.target.value)}>${["info", "warning", "critical"].map((one) => html`<option>${one}</option>`)}</select></label>
    </div>
    <p role="status" class=${wrong || trial.error ? "is-error" : ""}>${wrong || (trial.error ? trial.error.message : trial.count === undefined ? "…" : trial.count === 0 ? "It holds for nothing now." : `It holds for ${trial.count} series now.`)}</p>
    <pre class="config" tabindex="0">${yaml}</pre>
    <p class="faint small">Put it into a file that <code>rules:</code> in the configuration names, then reload.</p>
    <div class="dialog-tools"><${CopyButton} text=${yaml} title="Copy the rule" /><button class="button" onClick=${() => download(`${name}.yaml`, "application/yaml", yaml)}>Download</button></div>
  <//>`;
}
