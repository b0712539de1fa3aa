// The query editor: a plain text area with its coloured twin below it, completion beside the cursor, errors at their place.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { complete, tokens } from "./promql.js";

const PAIRS = { "(": ")", "{": "}", "[": "]", '"': '"' };

// `at` is the offset of an error, or -1.
function Coloured({ text, at }) {
  const parts = [];
  for (const token of tokens(text)) {
    const wrong = at >= token.at && at < token.at + token.text.length;
    parts.push(html`<span class=${`q-${token.kind}${wrong ? " q-wrong" : ""}`}>${token.text}</span>`);
  }
  if (at >= text.length && at >= 0) parts.push(html`<span class="q-wrong"> </span>`);
  return html`<pre class="editor-colours" aria-hidden="true">${parts}${"\n"}</pre>`;
}

// Where Prometheus says that the error is: `1:5: …`, line and column from 1.
export function errorOffset(message, text) {
  const place = /^(?:invalid parameter "query": )?(\d+):(\d+):/.exec(message ?? "");
  if (!place) return -1;
  const lines = text.split("\n").slice(0, Number(place[1]) - 1);
  return lines.reduce((sum, line) => sum + line.length + 1, 0) + Number(place[2]) - 1;
}

// Pixels of the cursor within the editor, measured on the coloured twin.
function cursorPlace(frame, offset) {
  const walker = document.createTreeWalker(frame.querySelector(".editor-colours"), NodeFilter.SHOW_TEXT);
  let rest = offset;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (rest <= node.length) {
      const range = document.createRange();
      range.setStart(node, rest);
      const box = range.getBoundingClientRect();
      const outer = frame.getBoundingClientRect();
      return { left: box.left - outer.left, top: box.bottom - outer.top };
    }
    rest -= node.length;
  }
  return { left: 12, top: 36 };
}

export function Editor({ value, onInput, onRun, error }) {
  const frame = useRef();
  const area = useRef();
  const [offer, setOffer] = useState(null);
  const [chosen, setChosen] = useState(0);
  const turn = useRef(0);
  const caret = useRef(null);

  useLayoutEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight}px`;
    if (caret.current !== null) {
      area.current.setSelectionRange(caret.current, caret.current);
      caret.current = null;
    }
  }, [value]);

  const close = () => {
    turn.current += 1;
    setOffer(null);
  };
  const look = async (text, cursor) => {
    const mine = (turn.current += 1);
    const found = await complete(text, cursor);
    if (mine !== turn.current) return;
    setChosen(0);
    setOffer(found.items.length === 0 ? null : { ...found, cursor, place: cursorPlace(frame.current, cursor - found.word.length) });
  };
  const edit = (text, cursor) => {
    caret.current = cursor;
    onInput(text);
  };
  const accept = (item) => {
    const start = offer.cursor - offer.word.length;
    const after = value.slice(offer.cursor);
    let insert = item.insert;
    let cursor = start + insert.length;
    if (item.kind === "function" && insert.endsWith("(")) {
      if (after.startsWith("(")) insert = insert.slice(0, -1);
      else insert += ")";
    }
    if (item.kind === "value" && !after.startsWith('"')) {
      insert += '"';
      cursor = start + insert.length;
    }
    close();
    edit(value.slice(0, start) + insert + after, cursor);
    area.current.focus();
  };
  const typed = (event) => {
    const { value: text, selectionStart } = event.target;
    onInput(text);
    look(text, selectionStart);
  };
  const pair = (event) => {
    const { selectionStart: start, selectionEnd: end } = area.current;
    const next = value[end] ?? "";
    if (event.key === next && /["')}\]]/.test(next) && start === end) {
      event.preventDefault();
      area.current.setSelectionRange(end + 1, end + 1);
    } else if (PAIRS[event.key] && (start !== end || next === "" || /[\s)}\],]/.test(next)) && !(event.key === '"' && /\w/.test(value[start - 1] ?? ""))) {
      event.preventDefault();
      const text = value.slice(0, start) + event.key + value.slice(start, end) + PAIRS[event.key] + value.slice(end);
      edit(text, start === end ? start + 1 : end + 2);
      look(text, start + 1);
    } else if (event.key === "Backspace" && start === end && PAIRS[value[start - 1]] === next && next !== "") {
      event.preventDefault();
      edit(value.slice(0, start - 1) + value.slice(end + 1), start - 1);
      close();
    }
  };
  const key = (event) => {
    if (event.ctrlKey && event.key === " ") {
      event.preventDefault();
      look(value, area.current.selectionStart);
      return;
    }
    if (offer) {
      const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
      if (move) {
        event.preventDefault();
        setChosen((chosen + move + offer.items.length) % offer.items.length);
        return;
      }
      if (event.key === "Tab" || (event.key === "Enter" && !event.ctrlKey && !event.metaKey)) {
        event.preventDefault();
        accept(offer.items[chosen]);
        return;
      }
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
        return;
      }
    }
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      close();
      onRun(value);
      return;
    }
    if (!event.ctrlKey && !event.metaKey && !event.altKey) pair(event);
  };
  useEffect(() => {
    frame.current.querySelector(".offer [aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [chosen, offer]);

  const at = error ? errorOffset(error.message, error.query ?? value) : -1;
  const pick = offer?.items[chosen];
  return html`<div ref=${frame} class=${`editor${error ? " is-wrong" : ""}`}>
    <${Coloured} text=${value} at=${error?.query === value ? at : -1} />
    <textarea ref=${area} rows="1" spellcheck="false" autocomplete="off" autocapitalize="off" aria-label="PromQL query"
      role="combobox" aria-autocomplete="list" aria-expanded=${offer !== null} aria-controls="offer" aria-activedescendant=${offer ? `offer-${chosen}` : undefined}
      placeholder="A PromQL expression; Enter runs it, Shift+Enter starts a new line, Ctrl+Space completes"
      value=${value} onInput=${typed} onKeyDown=${key} onBlur=${() => setTimeout(close, 150)} onClick=${close}></textarea>
    ${offer &&
    html`<div class="offer-frame" style=${{ left: `${Math.max(0, offer.place.left - 8)}px`, top: `${offer.place.top + 4}px` }}>
      <ul class="offer" id="offer" role="listbox" aria-label="Completions">${offer.items.map(
        (item, i) => html`<li id=${`offer-${i}`} role="option" aria-selected=${i === chosen} key=${item.kind + item.text}
          onPointerDown=${(event) => (event.preventDefault(), accept(item))}><span>${item.text}</span><small>${item.kind}</small></li>`,
      )}</ul>
      ${pick?.hint && html`<p class="offer-hint">${pick.hint}</p>`}
    </div>`}
  </div>`;
}
