// A dialog over the page, and a menu below a button. The browser keeps the focus inside and closes on Escape.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";

export function Dialog({ title, onClose, wide, children }) {
  const frame = useRef();
  useEffect(() => {
    const opener = document.activeElement;
    if (!frame.current.open) frame.current.showModal();
    return () => opener?.focus?.();
  }, []);
  const outside = (event) => event.target === frame.current && onClose();
  return html`<dialog ref=${frame} class=${`dialog${wide ? " is-wide" : ""}`} aria-label=${title} onClose=${onClose} onPointerDown=${outside}>
    <div class="dialog-inner">
      <header class="dialog-head"><h2>${title}</h2><button class="button icon is-quiet" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
      ${children}
    </div>
  </dialog>`;
}

// `items`: `{ title, run }`, or `{ title, href }` for what leads elsewhere; null is left out.
export function Menu({ label, items }) {
  const [open, setOpen] = useState(false);
  const frame = useRef();
  useEffect(() => {
    if (!open) return undefined;
    frame.current.querySelector("[role=menuitem]")?.focus();
    const outside = (event) => !frame.current.contains(event.target) && setOpen(false);
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, [open]);
  const key = (event) => {
    const all = [...frame.current.querySelectorAll("[role=menuitem]")];
    const at = all.indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && open) {
      event.preventDefault();
      all[(at + move + all.length) % all.length]?.focus();
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      setOpen(false);
      frame.current.querySelector("button").focus();
    }
  };
  return html`<div ref=${frame} class="popover-anchor menu-anchor" onKeyDown=${key}>
    <button class="button icon is-quiet" aria-haspopup="menu" aria-expanded=${open} aria-label=${label} title=${label} onClick=${() => setOpen(!open)}><${Icon} name="more" /></button>
    ${open &&
    html`<div class="popover menu" role="menu" aria-label=${label}>${items.filter(Boolean).map(
      (item) => html`<button role="menuitem" class="menu-item" onClick=${() => (setOpen(false), item.run())}>${item.title}</button>`,
    )}</div>`}
  </div>`;
}

// Puts a text on the clipboard and says so on the button.
export function CopyButton({ text, title = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await copyText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="button" onClick=${copy}>${done ? html`<${Icon} name="check" /> Copied` : title}</button>`;
}

// The clipboard is there on https and loopback only; elsewhere a hidden field does it.
async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not allowed: below is the old way.
    }
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export function download(name, type, content) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
