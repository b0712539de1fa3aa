// Writing a dashboard in the browser: its YAML on one side, what it shows on the other; saved where the server allows it.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { get, may, post, put } from "./api.js";
import { Board } from "./dashboards.js";
import { CopyButton, download } from "./dialog.js";
import { Failure, PageHead } from "./page.js";
import { go } from "./router.js";

const EMPTY = `title: My dashboard
description: What it is for.
range: 1h
vars:
  job: { label: job, from: up, all: true }
rows:
  - title: Overview
    panels:
      - title: Targets up
        kind: stat
        query: sum(up{job=~"$job"})
      - title: Up by job
        query: sum by (job) (up{job=~"$job"})
        legend: '{{job}}'
        min: 0
`;
const WAIT = 400;

// The text with its lines numbered, and the line of a mistake marked.
function Text({ value, onInput, line }) {
  const area = useRef();
  const numbers = useRef();
  const lines = value.split("\n").length;
  const scroll = () => (numbers.current.scrollTop = area.current.scrollTop);
  const key = (event) => {
    // Tab indents; Escape before it lets the keyboard go on to the next field.
    if (event.key !== "Tab" || event.shiftKey || area.current.dataset.free) {
      area.current.dataset.free = event.key === "Escape" ? "1" : "";
      return;
    }
    event.preventDefault();
    const { selectionStart: start, selectionEnd: end } = area.current;
    area.current.setRangeText("  ", start, end, "end");
    onInput(area.current.value);
  };
  return html`<div class="source">
    <pre ref=${numbers} class="source-lines" aria-hidden="true">${Array.from({ length: lines }, (_, i) => html`<span class=${i + 1 === line ? "is-wrong" : ""}>${i + 1}${"\n"}</span>`)}</pre>
    <textarea ref=${area} spellcheck="false" autocapitalize="off" wrap="off" aria-label="YAML of the dashboard; Escape, then Tab leaves it" aria-invalid=${line !== undefined} value=${value} onInput=${(event) => onInput(event.target.value)} onScroll=${scroll} onKeyDown=${key}></textarea>
  </div>`;
}

// What the server makes of the text: a board, or its mistake with a line.
function usePreview(text) {
  const [state, setState] = useState({});
  useEffect(() => {
    if (text === undefined) return undefined;
    let wanted = true;
    const timer = setTimeout(async () => {
      try {
        const { data } = await post("/api/v1/dashboards/preview", { text });
        if (wanted) setState({ board: data.dashboard });
      } catch (error) {
        const line = /^dashboard\.yaml:(\d+):/.exec(error.message);
        if (wanted) setState((old) => ({ board: old.board, error, line: line ? Number(line[1]) : undefined }));
      }
    }, WAIT);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [text]);
  return state;
}

function Import({ onText }) {
  const [error, setError] = useState(null);
  const take = async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    try {
      const text = await file.text();
      if (!/\.json$/i.test(file.name)) return onText(text, nameOf(file.name));
      const { data } = await post("/api/v1/dashboards/preview", { text, grafana: true });
      onText(data.yaml, nameOf(file.name));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<label class="button">Import a file<input class="visually-hidden" type="file" accept=".json,.yaml,.yml" onChange=${take} /></label>
    ${error && html`<span class="is-error" role="alert">${error.message}</span>`}`;
}

const nameOf = (file) => file.replace(/\.\w+$/, "").toLowerCase().replace(/[^a-z0-9_-]+/g, "-").slice(0, 64);

export function EditPage({ name }) {
  const [source, setSource] = useState(name ? undefined : { yaml: EMPTY });
  const [text, setText] = useState(name ? undefined : EMPTY);
  const [target, setTarget] = useState(name ?? "my-dashboard");
  const [state, setState] = useState({});
  const [folder, setFolder] = useState(undefined);
  useEffect(() => {
    get(`/api/v1/dashboards/${encodeURIComponent(name ?? "host")}/source`).then(
      (found) => {
        setFolder(found.folder);
        if (!name) return;
        setSource(found);
        setText(found.yaml);
      },
      (error) => setState({ error }),
    );
  }, [name]);
  const preview = usePreview(text);
  const dirty = text !== source?.yaml;
  useEffect(() => {
    if (!dirty) return undefined;
    const warn = (event) => event.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [dirty]);
  if (text === undefined) return state.error ? html`<${Failure} error=${state.error} />` : html`<div class="skeleton page"></div>`;
  const save = async () => {
    try {
      // The revision says what the writer began with: an edit of somebody else is not written over.
      const revision = target === name ? source.revision : undefined;
      await put(`/api/v1/dashboards/${encodeURIComponent(target)}`, revision ? { text, revision } : { text });
      setSource({ ...source, yaml: text });
      setState({});
      setTimeout(() => go(`/dashboards/${target}`), 0);
    } catch (error) {
      setState({ error });
    }
  };
  const able = Boolean(folder) && may("admin");
  const why = !folder ? "This server saves no dashboards (no dashboards_folder in its configuration): copy or download the text." : !may("admin") ? "Saving needs the scope admin: copy or download the text." : `Saved to ${folder}.`;
  return html`<${PageHead} title=${name ? `Edit ${name}` : "New dashboard"} hint=${why}>
      <${Import} onText=${(yaml, found) => (setText(yaml), setTarget(found))} />
      <${CopyButton} text=${text} />
      <button class="button" onClick=${() => download(`${target || "dashboard"}.yaml`, "application/yaml", text)}>Download</button>
      ${able && html`<label class="variable">as <input value=${target} pattern="[a-z0-9_-]{1,64}" onInput=${(event) => setTarget(event.target.value)} /></label>
        <button class="button is-main" disabled=${Boolean(preview.error) || !/^[a-z0-9_-]{1,64}$/.test(target)} onClick=${save}>Save</button>`}
      <button class="button" onClick=${() => go(name ? `/dashboards/${name}` : "/dashboards")}>${dirty ? "Discard" : "Close"}</button>
    <//>
    ${state.error && html`<${Failure} error=${state.error} />`}
    <div class="editing">
      <div>
        <${Text} value=${text} onInput=${setText} line=${preview.error ? (preview.line ?? 0) : undefined} />
        <div class="source-state" role="status">${preview.error ? html`<pre class="is-error">${preview.error.hint || preview.error.message}</pre>` : preview.board ? html`<span class="faint">The text is in order.</span>` : ""}</div>
      </div>
      <section class="preview" aria-label="Preview">${preview.board && html`<${Board} key=${name} board=${preview.board} />`}</section>
    </div>`;
}
