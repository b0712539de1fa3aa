//! The main job, from a pushed sample to a page in an inbox, across kill -9 and a clean stop.

use serde_json::Value;

use crate::client::{Client, now};
use crate::process::{Server, eventually};
use crate::smtp::{STAGES, SmtpServer};
use crate::webhook::{Hook, WebhookServer};

const RULES: &str = r#"
groups:
- name: queue
  interval: 1s
  rules:
  - record: job:queue_depth:max
    expr: max by (job) (queue_depth)
  - alert: QueueTooDeep
    expr: job:queue_depth:max > 100
    for: 1s
    labels: {severity: page}
    annotations:
      summary: '{{ $labels.job }} holds {{ $value }} jobs'
"#;

/// Writes the three configuration files: rules as above, one group of receivers with mail and webhook.
fn configure(server: &Server, mail: &SmtpServer, login: Option<(&str, &str)>, hook: &WebhookServer) {
    server.write("rules/queue.yaml", RULES);
    let (tls, auth) = match login {
        Some((user, password)) => {
            let ca = server.write("ca.pem", &mail.certificate);
            let secret = server.write("password", &format!("{password}\n"));
            let tls = format!("require_tls: true\n    tls_config: {{ca_file: {}}}", ca.display());
            (
                tls,
                format!("auth_username: {user}\n    auth_password_file: {}", secret.display()),
            )
        }
        None => ("require_tls: false".to_owned(), "hello: tests.example.com".to_owned()),
    };
    let alertmanager = format!(
        "
route:
  receiver: nobody
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  routes:
  - matchers: [severity=\"page\"]
    receiver: oncall
receivers:
- name: nobody
- name: oncall
  email_configs:
  - to: oncall@example.com
    from: campanile@example.com
    smarthost: localhost:{port}
    send_resolved: true
    {tls}
    {auth}
  webhook_configs:
  - url: {url}
",
        port = mail.port(),
        url = hook.url()
    );
    server.write("alertmanager.yml", &alertmanager);
    server.write(
        "campanile.yaml",
        "rules: [rules/*.yaml]\nalertmanager: alertmanager.yml\nagent: {enabled: false}\n",
    );
}

fn push_depth(client: &Client, depth: f64) {
    let labels = [("__name__", "queue_depth"), ("job", "thumbnails"), ("instance", "a:1")];
    let answer = client.push(&[(&labels, &[(now(), depth)])]);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Pushes `depth` each 200 ms until `done` has an answer.
fn pushing<T>(client: &Client, depth: f64, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let mut round = 0;
    eventually(what, 60, || {
        if round % 4 == 0 {
            push_depth(client, depth);
        }
        round += 1;
        done()
    })
}

fn with_status(hooks: &[Hook], status: &str) -> Vec<Hook> {
    hooks.iter().filter(|hook| hook.status() == status).cloned().collect()
}

#[test]
fn a_pushed_sample_becomes_one_page_by_mail_and_webhook_across_kill_9() {
    let mail = SmtpServer::secure("campanile", "s3cret");
    let hook = WebhookServer::start();
    let mut server = Server::new();
    configure(&server, &mail, Some(("campanile", "s3cret")), &hook);
    server.start();
    let client = server.client();

    // Healthy: nothing pages. Then the queue fills, and the alert is pending at least once before the page.
    push_depth(&client, 3.0);
    eventually("the recording rule has a value", 20, || {
        client.value("job:queue_depth:max").filter(|value| value == "3")
    });
    assert!(
        hook.hooks().is_empty() && mail.messages().is_empty(),
        "{}",
        server.log()
    );
    pushing(&client, 250.0, "the alert is active", || {
        let alerts = client.get("/api/v1/alerts").json();
        alerts["data"]["alerts"]
            .as_array()
            .filter(|alerts| !alerts.is_empty())
            .cloned()
    });

    // The process dies the hard way while the alert is active, and comes back with all it knew.
    server.kill();
    server.start();
    pushing(&client, 250.0, "the page arrived by webhook and by mail", || {
        (!hook.hooks().is_empty() && !mail.messages().is_empty()).then_some(())
    });
    let page = &hook.hooks()[0];
    assert_eq!((page.status(), page.body["version"].as_str()), ("firing", Some("4")));
    assert!(
        page.header("idempotency-key").is_some_and(|key| !key.is_empty()),
        "{:?}",
        page.headers
    );
    let alert = &page.body["alerts"][0];
    assert_eq!(alert["annotations"]["summary"], "thumbnails holds 250 jobs", "{alert}");
    assert_eq!(alert["labels"]["alertname"], "QueueTooDeep");
    let message = &mail.messages()[0];
    assert!(
        message.encrypted && message.user.as_deref() == Some("campanile"),
        "{message:?}"
    );
    assert_eq!(
        (message.from.as_str(), message.to.as_slice()),
        ("campanile@example.com", &["oncall@example.com".to_owned()][..])
    );
    assert!(
        message
            .header("Subject")
            .is_some_and(|subject| subject.contains("QueueTooDeep")),
        "{}",
        message.text
    );

    // Killed again right after the page: it is not sent twice, and the alert goes on firing.
    server.kill();
    server.start();
    pushing(&client, 250.0, "the alert fires again after the restart", || {
        client
            .query("ALERTS{alertstate=\"firing\"}")
            .as_array()
            .filter(|found| !found.is_empty())
            .cloned()
    });
    let end = std::time::Instant::now() + std::time::Duration::from_secs(4);
    pushing(&client, 250.0, "four seconds passed", || {
        (std::time::Instant::now() > end).then_some(())
    });
    assert_eq!(hook.hooks().len(), 1, "paged twice by webhook: {:?}", hook.hooks());
    assert_eq!(mail.messages().len(), 1, "paged twice by mail");

    // Killed while the queue drains: the resolved notice still goes out, once on each way.
    server.kill();
    server.start();
    pushing(&client, 1.0, "the resolved notices arrived", || {
        (!with_status(&hook.hooks(), "resolved").is_empty() && mail.messages().len() == 2).then_some(())
    });
    let subjects: Vec<_> = mail
        .messages()
        .iter()
        .filter_map(|message| message.header("Subject"))
        .collect();
    assert!(
        subjects[0].contains("FIRING") && subjects[1].contains("RESOLVED"),
        "{subjects:?}"
    );
    assert_eq!((hook.hooks().len(), mail.messages().len()), (2, 2));
}

#[test]
fn a_mail_server_that_says_not_now_at_every_stage_gets_the_page_in_the_end() {
    let mail = SmtpServer::plain();
    mail.refuse(&STAGES);
    let hook = WebhookServer::start();
    hook.answer_next(&[500, 503]);
    let mut server = Server::new();
    configure(&server, &mail, None, &hook);
    server.start();
    let client = server.client();
    pushing(&client, 500.0, "mail and webhook got through", || {
        (!mail.messages().is_empty() && !hook.hooks().is_empty()).then_some(())
    });
    assert_eq!(mail.refused(), STAGES, "every stage sent it away once");
    assert_eq!((mail.messages().len(), hook.hooks().len()), (1, 1));
}

#[test]
fn the_default_server_watches_its_own_host_and_keeps_its_data_over_a_clean_stop() {
    let mut server = Server::new();
    server.start();
    let client = server.client();
    eventually("the agent pushed this host's metrics", 30, || {
        client.value("count(node_cpu_seconds_total{mode=\"idle\"})")
    });
    for query in [
        "node_memory_MemTotal_bytes",
        "node_load1",
        "count(node_filesystem_size_bytes)",
        "up{job=\"node\"}",
    ] {
        assert!(client.value(query).is_some(), "no answer to {query}");
    }
    let rules = client.get("/api/v1/rules").json();
    assert!(
        rules["data"]["groups"]
            .as_array()
            .is_some_and(|groups| !groups.is_empty()),
        "no shipped rules: {rules}"
    );
    let page = client.get("/");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(page.text().contains("<title>"), "{}", page.text());
    assert!(
        client
            .get("/metrics")
            .text()
            .contains("campanile_tsdb_log_commits_total")
    );

    let before = client.value("count_over_time(node_load1[1h])").expect("some samples");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    server.start();
    let after = client.value("count_over_time(node_load1[1h])").expect("some samples");
    let count = |text: &str| text.parse::<u64>().expect("a count");
    assert!(
        count(&after) >= count(&before),
        "{after} samples after the restart, {before} before"
    );
}

#[test]
fn a_bad_write_is_refused_by_name_and_the_good_part_is_kept() {
    let mut server = Server::new();
    server.write("campanile.yaml", "agent: {enabled: false}\n");
    server.arg("--storage.tsdb.retention.time=100y").start();
    let client = server.client();
    let old = [("__name__", "old")];
    assert_eq!(
        client.push(&[(&old, &[(0, 7.0)])]).status,
        204,
        "retention reaches back to 1970"
    );
    let good = [("__name__", "good")];
    let bad = [("__name__", "bad"), ("__name__", "twice")];
    let answer = client.push(&[(&good, &[(now(), 1.0)]), (&bad, &[(now(), 2.0)])]);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("bad"), "{}", answer.text());
    assert_eq!(client.value("good").as_deref(), Some("1"));

    let far = client.push(&[(&good, &[(now() + 3_600_000, 1.0)])]);
    assert!(far.status == 400 && far.text().contains("ahead"), "{}", far.text());
    let other = now();
    assert_eq!(client.push(&[(&good, &[(other, 5.0)])]).status, 204);
    assert_eq!(
        client.push(&[(&good, &[(other, 5.0)])]).status,
        204,
        "the same sample again is fine"
    );
    let conflict = client.push(&[(&good, &[(other, 6.0)])]);
    assert!(
        conflict.status == 400 && conflict.text().contains("good"),
        "{}",
        conflict.text()
    );
}

#[test]
fn a_second_server_on_one_directory_is_refused_and_names_the_first() {
    let mut server = Server::new();
    server.start();
    let data = server.data_dir().display().to_string();
    let (code, _, error) = server.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    assert_ne!(code, Some(0));
    assert!(
        error.contains("data") && error.chars().any(|c| c.is_ascii_digit()),
        "{error}"
    );
}

#[test]
fn a_broken_configuration_names_file_line_and_what_was_meant_and_a_reload_keeps_the_old_one() {
    let mut server = Server::new();
    server.write("campanile.yaml", "agent: {enabled: false}\nevaluation_intervall: 1s\n");
    let config = server.folder().join("campanile.yaml").display().to_string();
    let (code, _, error) = server.run(&["serve", "--config", &config, "--listen", "127.0.0.1:0"]);
    assert_ne!(code, Some(0));
    assert!(
        error.contains("campanile.yaml:2:1") && error.contains("\"evaluation_interval\""),
        "{error}"
    );

    server.write("campanile.yaml", "agent: {enabled: false}\nrules: [rules/*.yaml]\n");
    server.write("rules/queue.yaml", RULES);
    server.start();
    let client = server.client();
    server.write("rules/queue.yaml", &RULES.replace("expr: max by", "expr: maxx by"));
    let answer = client.post("/-/reload", &[], b"");
    assert!(
        answer.status >= 400 && answer.text().contains("queue.yaml:"),
        "{} {}",
        answer.status,
        answer.text()
    );
    let rules: Value = client.get("/api/v1/rules").json();
    assert_eq!(rules["data"]["groups"][0]["rules"][0]["name"], "job:queue_depth:max");
    server.write(
        "rules/queue.yaml",
        &RULES.replace("job:queue_depth:max", "job:depth:max"),
    );
    assert_eq!(client.post("/-/reload", &[], b"").status, 200);
    let rules: Value = client.get("/api/v1/rules").json();
    assert_eq!(rules["data"]["groups"][0]["rules"][0]["name"], "job:depth:max");
}
