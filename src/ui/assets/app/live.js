// What comes after the points that are drawn: one stream for all charts of the page (`POST /api/v1/query_tail`).

import { signal } from "../vendor/preact.js";
import { prefix } from "./api.js";

// False while the server offers no stream: charts then ask on the interval.
export const streaming = signal(true);

const AGAIN = 30000;
const tails = new Map();
let count = 0;
let abort;
let timer;

// Follows a query: `on({ from, to, data })`, seconds and a matrix, whenever a point is due. `from` is the first point that is
// not drawn, in milliseconds, as is `step`. Returns what ends it.
export function follow(query, step, from, on) {
  count += 1;
  const id = String(count);
  tails.set(id, { query, step: step / 1000, from: from / 1000, on });
  changed();
  return () => {
    tails.delete(id);
    changed();
  };
}

function changed() {
  clearTimeout(timer);
  timer = setTimeout(open, 300);
}

async function open() {
  abort?.abort();
  if (tails.size === 0 || document.visibilityState === "hidden") return;
  const mine = (abort = new AbortController());
  const queries = [...tails].slice(0, 200).map(([id, { query, step, from }]) => ({ id, query, step, from }));
  try {
    const response = await fetch(`${prefix}/api/v1/query_tail`, {
      method: "POST",
      signal: mine.signal,
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ queries }),
    });
    if (response.status !== 200) return without();
    streaming.value = true;
    await read(response.body.getReader());
    if (!mine.signal.aborted) timer = setTimeout(open, 500);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return undefined;
    without();
  }
  return undefined;
}

// No stream for now: the charts ask by themselves, and a stream is tried again later.
function without() {
  streaming.value = false;
  setTimeout(() => {
    streaming.value = true;
  }, AGAIN);
}

async function read(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) if (event.startsWith("data: ")) take(JSON.parse(event.slice(6)));
  }
}

function take({ id, from, to, answer }) {
  const tail = tails.get(id);
  if (!tail) return;
  tail.from = to + tail.step;
  tail.on(answer.status === "success" ? { from, to, data: answer.data } : { from, to, error: answer.error });
}

document.addEventListener("visibilitychange", changed);
