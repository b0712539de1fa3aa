// PromQL as the editor sees it: tokens to colour, and what could be written at the cursor.

import { get } from "./api.js";

const TOKEN =
  /(#[^\n]*)|("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|`[^`]*`?)|(\d+(?:y|w|d|h|ms|m|s)(?:\d+(?:w|d|h|ms|m|s))*\b|0x[\da-fA-F]+|\d*\.?\d+(?:[eE][+-]?\d+)?)|(\$\w+)|([a-zA-Z_:][\w:]*)|(\s+)|([\s\S])/g;
const WORDS = new Set("by without on ignoring group_left group_right bool offset and or unless atan2 start end inf nan".split(" "));
const AGGREGATIONS = new Set(
  "sum avg count min max group stddev stdvar topk bottomk count_values quantile limitk limit_ratio".split(" "),
);
const KINDS = ["comment", "string", "number", "variable", "name", "space", "sign"];

// Splits a query into `{ kind, text, at }`: nothing is lost, so the coloured text lies exactly under the typed one.
export function tokens(text) {
  const out = [];
  for (const match of text.matchAll(TOKEN)) {
    let kind = KINDS[match.slice(1).findIndex((part) => part !== undefined)];
    if (kind === "name") kind = nameKind(match[0], text.slice(match.index + match[0].length));
    out.push({ kind, text: match[0], at: match.index });
  }
  labelsInside(out);
  return out;
}

function nameKind(name, rest) {
  const lower = name.toLowerCase();
  if (WORDS.has(lower)) return "word";
  if (AGGREGATIONS.has(lower) && /^\s*(\(|by\b|without\b)/.test(rest)) return "function";
  return /^\s*\(/.test(rest) ? "function" : "metric";
}

// Names between braces, or between the brackets of `by (…)`, are labels.
function labelsInside(list) {
  let braces = 0;
  let grouping = false;
  let last = "";
  for (const token of list) {
    if (token.kind === "space") continue;
    if (token.text === "{") braces += 1;
    if (token.text === "}") braces -= 1;
    if (token.text === "(" && /^(by|without|on|ignoring|group_left|group_right)$/i.test(last)) grouping = true;
    if (token.text === ")") grouping = false;
    if ((token.kind === "metric" || token.kind === "function") && (braces > 0 || grouping)) token.kind = "label";
    last = token.text;
  }
}

// What the server knows, asked once and kept for a while.
const kept = new Map();
const KEEP = 60000;
function once(key, ask) {
  const found = kept.get(key);
  if (found && Date.now() - found.at < KEEP) return found.data;
  const data = ask().catch(() => []);
  kept.set(key, { at: Date.now(), data });
  return data;
}

export const metricNames = () => once("metrics", () => get("/api/v1/label/__name__/values", { limit: 20000 }));
const metadata = () => once("metadata", () => get("/api/v1/metadata", { limit_per_metric: 1 }));
const labelNames = (metric) => once(`labels ${metric}`, () => get("/api/v1/labels", { "match[]": metric || undefined, limit: 2000 }));
const labelValues = (label, metric) =>
  once(`values ${label} ${metric}`, () => get(`/api/v1/label/${encodeURIComponent(label)}/values`, { "match[]": metric || undefined, limit: 2000 }));
async function functions() {
  const list = await once("functions", () => get("/api/v1/functions"));
  const known = Array.isArray(list) ? list : (list.functions ?? []);
  return known.length > 0 ? known : [...AGGREGATIONS].map((name) => ({ name, doc: "" }));
}

// Where the cursor is: in a label's value, among labels, or where an expression may begin.
export function context(text, cursor) {
  const before = tokens(text.slice(0, cursor)).filter((token) => token.kind !== "comment");
  const at = before.at(-1);
  let metric = "";
  let depth = 0;
  for (let i = before.length - 1; i >= 0; i -= 1) {
    const token = before[i];
    if (token.text === "}") depth -= 1;
    if (token.text === "{") {
      depth += 1;
      if (depth === 1) {
        const name = before.slice(0, i).filter((one) => one.kind !== "space").at(-1);
        metric = name?.kind === "metric" ? name.text : "";
        break;
      }
    }
  }
  const open = at?.kind === "string" && (at.text.length === 1 || at.text.at(-1) !== at.text[0]);
  if (open && depth === 1) {
    const names = before.filter((token) => token.kind === "label");
    return { kind: "value", word: at.text.slice(1), label: names.at(-1)?.text ?? "", metric };
  }
  if (open || at?.kind === "number" || at?.kind === "string") return { kind: "none", word: "" };
  const named = at && ["metric", "function", "label", "word"].includes(at.kind);
  const word = named ? at.text : "";
  if (depth === 1) {
    const last = before.filter((token) => token.kind !== "space").at(named ? -2 : -1);
    return last?.text === "{" || last?.text === "," ? { kind: "label", word, metric } : { kind: "none", word };
  }
  if (at?.kind === "label" || /\b(by|without|on|ignoring)\s*\([^)]*$/i.test(text.slice(0, cursor))) {
    return { kind: "label", word, metric: "" };
  }
  return { kind: "expression", word };
}

// How well `name` answers `word`: prefix, then the start of a part, then anywhere, then letters in order.
function rank(name, word) {
  if (word === "") return 1;
  const at = name.toLowerCase().indexOf(word.toLowerCase());
  if (at === 0) return 4;
  if (at > 0) return /[_:]/.test(name[at - 1]) ? 3 : 2;
  let i = 0;
  for (const letter of name.toLowerCase()) if (letter === word[i]?.toLowerCase()) i += 1;
  return i === word.length ? 1 : 0;
}

const OFFERED_MAX = 60;

// What could stand at the cursor: `{ word, items: [{ text, insert, kind, hint }] }`, best first.
export async function complete(text, cursor) {
  const where = context(text, cursor);
  let items = [];
  if (where.kind === "value") {
    items = (await labelValues(where.label, where.metric)).map((value) => ({ text: value, insert: value.replace(/(["\\])/g, "\\$1"), kind: "value", hint: "" }));
  } else if (where.kind === "label") {
    items = (await labelNames(where.metric)).filter((name) => name !== "__name__").map((name) => ({ text: name, insert: name, kind: "label", hint: "" }));
  } else if (where.kind === "expression" && where.word !== "") {
    const [names, about, known] = await Promise.all([metricNames(), metadata(), functions()]);
    items = [
      ...known.map(({ name, doc }) => ({ text: name, insert: `${name}(`, kind: "function", hint: doc ?? "" })),
      ...names.map((name) => ({ text: name, insert: name, kind: about[name]?.[0]?.type ?? "metric", hint: about[name]?.[0]?.help ?? "" })),
    ];
  }
  const ranked = items
    .map((item) => ({ item, score: rank(item.text, where.word) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score || a.item.text.length - b.item.text.length || a.item.text.localeCompare(b.item.text));
  // Scattered letters count only where nothing better is there.
  if (where.word !== "" && ranked[0]?.score > 1) ranked.splice(ranked.findIndex(({ score }) => score === 1) >>> 0);
  const best = ranked.slice(0, OFFERED_MAX).map(({ item }) => item);
  return { word: where.word, items: best.length === 1 && best[0].text === where.word ? [] : best };
}
