// The HTTP API, as the pages ask it. Every address is relative to the server's prefix; nothing leaves the origin.

import { signal } from "../vendor/preact.js";

export const prefix = document.documentElement.dataset.prefix || "";

// False once the server has asked who is there: the shell then shows the sign-in.
export const signedIn = signal(true);

// What this reader may do: null while it is not known.
export const scopes = signal(null);
export const may = (scope) => scopes.value === null || scopes.value.includes(scope);

export async function whoAmI() {
  try {
    const session = await get("/-/session");
    if (session.signedIn) scopes.value = session.scopes;
    else signedIn.value = false;
  } catch {
    // An old server, or none: the pages find out by themselves.
  }
}

// What the server answered instead of data: `type` is Prometheus's error type, `status` the HTTP code (0: no answer).
export class ApiError extends Error {
  constructor(message, type, status, hint) {
    super(message);
    this.hint = hint;
    this.type = type;
    this.status = status;
  }
}

async function send(method, path, { params, body, signal } = {}) {
  let url = prefix + path;
  const options = { method, signal, headers: {}, credentials: "same-origin" };
  if (params && method === "GET") url += "?" + form(params);
  else if (params) {
    options.body = form(params).toString();
    options.headers["Content-Type"] = "application/x-www-form-urlencoded";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server does not answer", "network", 0);
  }
  const text = await response.text();
  let json;
  try {
    json = text === "" ? {} : JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (response.status === 401) signedIn.value = false;
  if (!response.ok || json?.status === "error") {
    const reason = json?.error ?? (typeof json === "string" ? json : text.slice(0, 300));
    throw new ApiError(reason || response.statusText, json?.errorType ?? "http", response.status, json?.hint);
  }
  if (json === undefined) throw new ApiError("the server's answer is no JSON", "format", response.status);
  return json;
}

function form(params) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === null) continue;
    for (const one of Array.isArray(value) ? value : [value]) out.append(name, String(one));
  }
  return out;
}

// Prometheus's endpoints: the `data` of the answer.
export const get = async (path, params, signal) => (await send("GET", path, { params, signal })).data;

// A query: value, warnings, infos and statistics.
export async function query(path, params, signal) {
  const answer = await send("POST", path, { params, signal });
  return { ...answer.data, warnings: answer.warnings ?? [], infos: answer.infos ?? [] };
}

// Alertmanager's endpoints: the answer itself.
export const plain = (path, params, signal) => send("GET", path, { params, signal });
export const post = (path, body) => send("POST", path, { body });
export const put = (path, body) => send("PUT", path, { body });
export const remove = (path) => send("DELETE", path);

// Text endpoints (readiness): the status and the text.
export async function text(path) {
  try {
    const response = await fetch(prefix + path, { credentials: "same-origin" });
    return { status: response.status, text: await response.text() };
  } catch {
    return { status: 0, text: "the server does not answer" };
  }
}
