// Addresses and pages: the path names the page, the query holds what it shows, and both can be shared.

import { html, signal } from "../vendor/preact.js";
import { prefix } from "./api.js";

const read = () => ({
  path: location.pathname.slice(prefix.length) || "/",
  params: Object.fromEntries(new URLSearchParams(location.search)),
});

export const place = signal(read());

addEventListener("popstate", () => {
  place.value = read();
});

export function go(path, params = {}, replace = false) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== ""));
  const address = prefix + path + (query.size > 0 ? `?${query}` : "");
  if (address === location.pathname + location.search) return;
  if (replace) window.history.replaceState(null, "", address);
  else window.history.pushState(null, "", address);
  place.value = read();
}

// Changes some of the address's parameters without a step in the browser's history.
export const setParams = (changes) => go(place.peek().path, { ...place.peek().params, ...changes }, true);

// A link within the page; with a modifier key the browser does what it always does.
export function Link({ to, params, class: name, current, title, children }) {
  const query = new URLSearchParams(params ?? {});
  const href = prefix + to + (query.size > 0 ? `?${query}` : "");
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(to, params ?? {});
    scrollTo(0, 0);
  };
  return html`<a href=${href} class=${name} title=${title} aria-current=${current ? "page" : undefined} onClick=${click}>${children}</a>`;
}
