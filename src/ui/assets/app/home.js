// Home: what needs attention, then the machine.

import { html } from "../vendor/preact.js";
import { AlertList, useAlerts } from "./alert-list.js";
import { DashboardPage } from "./dashboards.js";

// Alerts are shown above the charts only when there are any: a calm server has a calm page.
function Attention() {
  const { alerts, loaded } = useAlerts();
  const shown = alerts.filter((alert) => !alert.silenced);
  if (!loaded || shown.length === 0) return null;
  return html`<section class="attention" aria-label="Alerts"><${AlertList} compact=${true} /></section>`;
}

export const HomePage = () => html`<${DashboardPage} name="host" lead=${html`<${Attention} />`} />`;
