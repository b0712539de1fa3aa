// The sign-in: a token, or a user's name and password. The server answers with a cookie that scripts cannot read.

import { html, useState } from "../vendor/preact.js";
import { post } from "./api.js";

export function SignInForm() {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    const username = fields.get("username").trim();
    setBusy(true);
    setError("");
    try {
      await post("/-/login", { ...(username ? { username } : {}), password: fields.get("password") });
      location.reload();
    } catch (failure) {
      setError(failure.status === 401 ? "That is not known here." : failure.message);
      setBusy(false);
    }
  };
  return html`<form class="panel signin" onSubmit=${submit}>
    <h1>Sign in</h1>
    <p>With a token that may <code>query</code>, or with name and password.</p>
    <label>Name <input name="username" autocomplete="username" placeholder="empty for a token" /></label>
    <label>Token or password <input name="password" type="password" autocomplete="current-password" required autofocus /></label>
    <p class="is-error" role="alert">${error}</p>
    <button class="button is-main" disabled=${busy}>Sign in</button>
  </form>`;
}
