//! Pages over kill -9: whatever was accepted is told, and told under one name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::process::{Server, eventually};
use crate::webhook::{Hook, WebhookServer};

const ROUNDS: u64 = 8;
const ALERTS: usize = 20;

fn configure(server: &Server, hook: &WebhookServer) {
    server.write(
        "campanile.yaml",
        "agent: {enabled: false}\nrules: []\nalertmanager: alertmanager.yml\n",
    );
    let text = format!(
        "route: {{receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: page, webhook_configs: [{{url: '{}'}}]}}]\n",
        hook.url()
    );
    server.write("alertmanager.yml", &text);
}

fn post(client: &Client, alerts: &[Value]) {
    let body = Value::Array(alerts.to_vec()).to_string();
    let answer = client.post(
        "/api/v2/alerts",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The alerts of a round, firing for a long time or over.
fn alerts(round: u64, over: bool) -> Vec<Value> {
    let ends = if over {
        "2026-01-01T00:00:01Z"
    } else {
        "2099-01-01T00:00:00Z"
    };
    let one = |n: usize| {
        let labels = json!({"alertname": "Kill", "n": format!("{round}/{n}")});
        json!({"labels": labels, "startsAt": "2026-01-01T00:00:00Z", "endsAt": ends})
    };
    (0..ALERTS).map(one).collect()
}

/// Under which names each alert was told in each state.
fn names(hooks: &[Hook]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut names: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for hook in hooks {
        let id = hook
            .header("idempotency-key")
            .expect("every message has a name")
            .to_owned();
        for alert in hook.body["alerts"].as_array().expect("a list of alerts") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let key = (text(&alert["labels"]["n"]), text(&alert["status"]));
            names.entry(key).or_default().insert(id.clone());
        }
    }
    names
}

fn all_told(hook: &WebhookServer, round: u64, status: &str) -> Option<()> {
    let names = names(&hook.hooks());
    let told = |n: usize| names.contains_key(&(format!("{round}/{n}"), status.to_owned()));
    (0..ALERTS).all(told).then_some(())
}

#[test]
fn a_process_killed_at_any_moment_loses_no_page_and_tells_none_under_two_names() {
    let hook = WebhookServer::start();
    let mut server = Server::new();
    configure(&server, &hook);
    server.start();
    for round in 0..ROUNDS {
        for (over, status) in [(false, "firing"), (true, "resolved")] {
            post(&server.client(), &alerts(round, over));
            // From "just accepted" over "some are sent" to "nearly all are".
            std::thread::sleep(Duration::from_millis(round * 6));
            server.kill();
            server.start();
            eventually(&format!("all of round {round} are told as {status}"), 30, || {
                all_told(&hook, round, status)
            });
        }
    }
    let hooks = hook.hooks();
    for (about, names) in names(&hooks) {
        assert_eq!(names.len(), 1, "{about:?} was told under the names {names:?}");
    }
    let needed = 2 * ROUNDS as usize * ALERTS;
    // What was being sent at a kill may come twice: no more than are under way at once.
    let most = needed + 2 * ROUNDS as usize * 8;
    assert!(
        (needed..=most).contains(&hooks.len()),
        "{} messages for {needed}",
        hooks.len()
    );
}

#[test]
fn a_page_whose_answer_never_came_is_sent_again_under_the_same_name() {
    let hook = WebhookServer::start();
    let mut server = Server::new();
    configure(&server, &hook);
    server.start();
    hook.hold_next();
    post(&server.client(), &alerts(0, false)[..1]);
    eventually("the page is at the receiver", 20, || {
        (!hook.hooks().is_empty()).then_some(())
    });
    server.kill();
    server.start();
    eventually("it came again", 30, || (hook.hooks().len() == 2).then_some(()));
    let hooks = hook.hooks();
    assert_eq!(hooks[0].header("idempotency-key"), hooks[1].header("idempotency-key"));
    assert_eq!(hooks[0].body, hooks[1].body);
    server.kill();
    server.start();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        hook.hooks().len(),
        2,
        "what was answered and recorded does not come again"
    );
}
