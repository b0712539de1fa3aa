// Addresses and pages: the path names the page, the query holds what it shows, and both can be shared.

import { html, signal } from "../vendor/preact.js";
import { prefix } from "./api.js";

// A parameter that is there several times is a list.
function read() {
  const params = {};
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === "__proto__") continue;
    params[name] = name in params ? [params[name], value].flat() : value;
  }
  return { path: location.pathname.slice(prefix.length) || "/", params };
}

// The address of a page below the server's prefix.
export function prefixed(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) if (one !== undefined && one !== "") query.append(name, one);
  }
  return prefix + path + (query.size > 0 ? `?${query}` : "");
}

export const place = signal(read());

addEventListener("popstate", () => {
  place.value = read();
});

export function go(path, params = {}, replace = false) {
  const address = prefixed(path, params);
  if (address === location.pathname + location.search) return;
  if (replace) window.history.replaceState(null, "", address);
  else window.history.pushState(null, "", address);
  place.value = read();
}

// Changes some of the address's parameters without a step in the browser's history.
export const setParams = (changes) => go(place.peek().path, { ...place.peek().params, ...changes }, true);

// A link within the page; with a modifier key the browser does what it always does.
export function Link({ to, params, class: name, current, title, label, children }) {
  const href = prefixed(to, params);
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(to, params ?? {});
    scrollTo(0, 0);
  };
  return html`<a href=${href} class=${name} title=${title} aria-label=${label} aria-current=${current ? "page" : undefined} onClick=${click}>${children}</a>`;
}
