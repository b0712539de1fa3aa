// What pages are made of: a heading, a failure, data that is fetched again on an interval.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get } from "./api.js";

export function PageHead({ title, hint, children }) {
  useEffect(() => {
    document.title = `${title} · Campanile`;
  }, [title]);
  return html`<header class="page-head">
    <div><h1>${title}</h1>${hint && html`<p class="faint">${hint}</p>`}</div>
    <div class="page-tools">${children}</div>
  </header>`;
}

const WORDS = { 0: "No answer", 403: "Not allowed", 404: "Not found", 503: "Not now" };

export const Failure = ({ error }) => html`<div class="failure" role="alert"><b>${WORDS[error.status ?? 0] ?? error.status}</b> ${error.message}</div>`;

// The data of one address: `{ data, error, again }`, asked anew every `every` milliseconds while the page is in sight; an empty
// address is not asked.
export function useFetch(path, params, every = 0, ask = get) {
  const [state, setState] = useState({});
  const [turn, setTurn] = useState(0);
  const key = path + JSON.stringify(params ?? {});
  useEffect(() => {
    if (path === "") return undefined;
    const abort = new AbortController();
    ask(path, params, abort.signal).then(
      (data) => setState({ data, key }),
      (error) => error.name !== "AbortError" && setState((old) => ({ data: old.key === key ? old.data : undefined, error, key })),
    );
    const timer = every > 0 && setInterval(() => document.visibilityState === "visible" && setTurn((n) => n + 1), every);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [key, turn, every]);
  return { ...(state.key === key ? state : {}), again: () => setTurn((n) => n + 1) };
}
