// The tree of a query, each part evaluated by itself: how many series it has, how many samples it read, how long it took.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, query } from "./api.js";
import { ErrorBox } from "./explore.js";
import { promDuration } from "./format.js";
import { span } from "./time.js";

const PARTS_MAX = 60;

const list = (names) => (names.length > 0 ? ` (${names.join(", ")})` : " ()");
const label = (name) => (/^[a-zA-Z_]\w*$/.test(name) ? name : JSON.stringify(name));

function matching({ card, labels, on, include } = {}) {
  if (!card) return "";
  const side = on || labels?.length > 0 ? ` ${on ? "on" : "ignoring"}${list((labels ?? []).map(label))}` : "";
  const group = card === "many-to-one" ? " group_left" : card === "one-to-many" ? " group_right" : "";
  return side + (group ? group + list((include ?? []).map(label)) : "");
}

function selector({ name, matchers, range, offset, timestamp, startOrEnd }) {
  const shown = matchers.filter((one) => one.name !== "__name__" || one.type !== "=" || one.value !== name);
  const inside = shown.map((one) => `${label(one.name)}${one.type}${JSON.stringify(one.value)}`).join(", ");
  const at = timestamp !== null && timestamp !== undefined ? ` @ ${timestamp / 1000}` : startOrEnd ? ` @ ${startOrEnd}()` : "";
  const shift = offset ? ` offset ${offset < 0 ? "-" : ""}${promDuration(Math.abs(offset))}` : "";
  return `${name}${inside ? `{${inside}}` : name ? "" : "{}"}${range ? `[${promDuration(range)}]` : ""}${at}${shift}`;
}

// A node of `parse_query` as PromQL.
export function print(node) {
  switch (node.type) {
    case "numberLiteral":
      return node.val;
    case "stringLiteral":
      return JSON.stringify(node.val);
    case "parenExpr":
      return `(${print(node.expr)})`;
    case "unaryExpr":
      return `${node.op}${print(node.expr)}`;
    case "call":
      return `${node.func.name}(${node.args.map(print).join(", ")})`;
    case "aggregation": {
      const by = node.without ? ` without${list(node.grouping.map(label))}` : node.grouping.length > 0 ? ` by${list(node.grouping.map(label))}` : "";
      return `${node.op}${by} (${node.param ? `${print(node.param)}, ` : ""}${print(node.expr)})`;
    }
    case "binaryExpr":
      return `${print(node.lhs)} ${node.op}${node.bool ? " bool" : ""}${matching(node.matching ?? {})} ${print(node.rhs)}`;
    case "subquery":
      return `${print(node.expr)}[${promDuration(node.range)}:${node.step ? promDuration(node.step) : ""}]${node.offset ? ` offset ${promDuration(node.offset)}` : ""}`;
    case "vectorSelector":
    case "matrixSelector":
      return selector(node);
    default:
      return "";
  }
}

const children = (node) => [node.lhs, node.rhs, node.param, node.expr, ...(node.args ?? [])].filter((child) => child && typeof child === "object");
const trivial = (node) => node.type === "numberLiteral" || node.type === "stringLiteral";

// All parts with their depth, the whole first.
function parts(node, depth = 0, out = []) {
  if (node.type === "parenExpr") return parts(node.expr, depth, out);
  out.push({ node, depth, text: print(node) });
  for (const child of children(node)) if (!trivial(child)) parts(child, depth + 1, out);
  return out;
}

function What({ node }) {
  const word = { binaryExpr: `${node.op} ${matching(node.matching ?? {})}`, aggregation: node.op, call: node.func?.name, vectorSelector: "select", matrixSelector: "select a range", subquery: "subquery", unaryExpr: node.op }[node.type] ?? node.type;
  return html`<span class="badge">${word}</span>`;
}

export function Tree({ expr, onQuery }) {
  const [rows, setRows] = useState(null);
  const [error, setError] = useState(null);
  const at = span.value.to / 1000;
  useEffect(() => {
    const abort = new AbortController();
    const walk = async () => {
      const all = parts(await get("/api/v1/parse_query", { query: expr }, abort.signal)).slice(0, PARTS_MAX);
      setError(null);
      setRows(all);
      // One after the other: their times would otherwise be those of each other's company.
      for (const part of all) {
        try {
          const answer = await query("/api/v1/query", { query: part.text, time: at, stats: "all", limit: 1 }, abort.signal);
          const counted = part.node.type === "matrixSelector" || part.node.type === "subquery" ? `count(last_over_time(${part.text}))` : `count(${part.text})`;
          const whole = answer.resultType === "scalar" ? 1 : await query("/api/v1/query", { query: counted, time: at }, abort.signal).then(({ result }) => Number(result[0]?.value[1] ?? 0));
          Object.assign(part, { series: whole, samples: answer.stats?.samples?.totalQueryableSamples, seconds: answer.stats?.timings?.evalTotalTime });
        } catch (problem) {
          if (problem.name === "AbortError") return;
          part.error = problem.message;
        }
        setRows([...all]);
      }
    };
    walk().catch((problem) => problem.name !== "AbortError" && setError(Object.assign(problem, { query: expr })));
    return () => abort.abort();
  }, [expr, at]);
  if (error) return html`<${ErrorBox} error=${error} />`;
  if (!rows) return html`<div class="skeleton page"></div>`;
  const slowest = Math.max(...rows.map((row) => row.seconds ?? 0), 1e-9);
  return html`<section class="panel is-wide"><div class="scroll" tabindex="0"><table class="table tree">
    <caption class="small faint">Each part evaluated by itself, at the end of the range.</caption>
    <thead><tr><th scope="col">part</th><th scope="col" class="figure">series</th><th scope="col" class="figure">samples</th><th scope="col" class="figure">time</th></tr></thead>
    <tbody>${rows.map(
      ({ node, depth, text, series, samples, seconds, error: wrong }) => html`<tr>
        <td><div class="tree-part" style=${{ paddingLeft: `${depth * 22}px` }}><${What} node=${node} /><button class="linklike" title="Explore this part" onClick=${() => onQuery(text)}><code>${text}</code></button></div>${wrong && html`<p class="is-error small">${wrong}</p>`}</td>
        <td class="figure" data-level=${series === 0 ? "warn" : undefined}>${series?.toLocaleString("en") ?? "…"}</td>
        <td class="figure">${samples?.toLocaleString("en") ?? "…"}</td>
        <td class="figure"><span class="tree-time"><i style=${{ width: `${(60 * (seconds ?? 0)) / slowest}px` }}></i>${seconds === undefined ? "…" : `${(seconds * 1000).toFixed(2)} ms`}</span></td></tr>`,
    )}</tbody></table></div></section>`;
}
