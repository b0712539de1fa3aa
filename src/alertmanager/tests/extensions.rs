//! What Campanile adds: fallback, flood control, health, the dead man's switch, explanations and previews.

use super::*;

/// A router whose receiver is down leads to another one; times are short.
const FALLBACK: &str = "global: {fallback: backup}\n\
    route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 5s}\n\
    receivers:\n\
    - {name: page, give_up_after: 20s, webhook_configs: [{url: 'http://hook/page'}]}\n\
    - {name: backup, webhook_configs: [{url: 'http://hook/backup'}]}\n";

#[tokio::test]
async fn what_cannot_be_told_is_told_to_the_fallback_with_the_reason() {
    World::new()
        .run(FALLBACK, async |world, manager| {
            for _ in 0..100 {
                world.http.script_status("page", 503);
            }
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(15)).await;
            assert!(world.told("backup").is_empty());
            world.pass(Interval::secs(20)).await;
            let told = world.told("backup");
            assert_eq!(told.len(), 1);
            let reason = told[0]["notification_reason"].as_str().unwrap();
            assert!(
                reason.starts_with("fallback: page (webhook) could not be told since"),
                "{reason}"
            );
            let events: Vec<String> = manager.audit(0).into_iter().map(|entry| entry.event).collect();
            for event in ["firing", "decided", "given_up", "fallback", "delivered"] {
                assert!(events.iter().any(|known| known == event), "{event}: {events:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn the_fallback_is_told_once_and_hears_of_the_end_whether_or_not_the_receiver_came_back() {
    for comes_back in [false, true] {
        World::new()
            .run(FALLBACK, async |world, manager| {
                for _ in 0..500 {
                    world.http.script_status("page", 503);
                }
                let (a, b) = (alert("A", &[("n", "1")], START), alert("A", &[("n", "2")], START));
                manager
                    .receive(vec![a.clone(), b.clone()], Origin::Rules)
                    .await
                    .unwrap();
                world.pass(Interval::secs(90)).await;
                assert_eq!(world.told("backup").len(), 1, "the same was told twice");
                if comes_back {
                    world.http.forget_script("page");
                    world.pass(Interval::mins(2)).await;
                }
                let over = vec![resolved(&a, world.clock.now())];
                manager.receive(over, Origin::Rules).await.unwrap();
                world.pass(Interval::secs(10)).await;
                let over = vec![resolved(&b, world.clock.now())];
                manager.receive(over, Origin::Rules).await.unwrap();
                world.pass(Interval::mins(5)).await;
                let told = world.told("backup");
                let statuses: Vec<&str> = told.iter().filter_map(|message| message["status"].as_str()).collect();
                assert_eq!(statuses, ["firing", "firing", "resolved"], "comes back: {comes_back}");
                assert!(manager.groups().is_empty());
            })
            .await;
    }
}

#[tokio::test]
async fn a_new_alert_in_an_old_group_reaches_the_fallback_when_the_receiver_was_given_up_again() {
    World::new()
        .run(FALLBACK, async |world, manager| {
            for _ in 0..500 {
                world.http.script_status("page", 503);
            }
            manager
                .receive(vec![alert("A", &[("n", "1")], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(30)).await;
            manager
                .receive(vec![alert("A", &[("n", "2")], world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(60)).await;
            let counts: Vec<usize> = world
                .told("backup")
                .iter()
                .map(|message| states(message).len())
                .collect();
            assert_eq!(counts, [1, 2]);
        })
        .await;
}

/// A fallback that has a fallback.
const CHAIN: &str = "route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 5s}\n\
    receivers:\n\
    - {name: page, fallback: second, give_up_after: 10s, webhook_configs: [{url: 'http://hook/page'}]}\n\
    - {name: second, fallback: third, give_up_after: 10s, webhook_configs: [{url: 'http://hook/second'}]}\n\
    - {name: third, webhook_configs: [{url: 'http://hook/third'}]}\n";

#[tokio::test]
async fn a_fallback_of_a_fallback_hears_of_the_end_too() {
    World::new()
        .run(CHAIN, async |world, manager| {
            for _ in 0..500 {
                world.http.script_status("page", 503);
                world.http.script_status("second", 503);
            }
            let a = alert("A", &[], START);
            manager.receive(vec![a.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(60)).await;
            manager
                .receive(vec![resolved(&a, world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(2)).await;
            let told = world.told("third");
            let statuses: Vec<&str> = told.iter().filter_map(|message| message["status"].as_str()).collect();
            assert_eq!(statuses, ["firing", "resolved"]);
        })
        .await;
}

#[tokio::test]
async fn a_refusal_for_good_goes_to_the_fallback_before_a_day_is_over() {
    World::new()
        .run(&FALLBACK.replace("give_up_after: 20s, ", ""), async |world, manager| {
            for _ in 0..3 {
                world.http.script_status("page", 403);
            }
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(4)).await;
            assert_eq!(world.told("backup").len(), 1);
        })
        .await;
}

#[tokio::test]
async fn a_flood_comes_as_a_few_messages_and_one_digest_that_holds_everything() {
    let yaml = "route: {receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 5m}\n\
        receivers: [{name: page, rate: 6/m, burst: 3, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            let alerts = (0..50).map(|n| alert("A", &[("n", &n.to_string())], START)).collect();
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            let told = world.told("page");
            let mut counts: Vec<usize> = told.iter().map(|message| states(message).len()).collect();
            counts.sort_unstable();
            assert_eq!(counts, [1, 1, 48]);
            let digest = told.iter().find(|message| states(message).len() == 48).unwrap();
            assert_eq!(
                digest["notification_reason"],
                "digest of 48 notifications held back by the rate 6/1m"
            );
            let receipts = manager.receipts();
            assert_eq!(receipts.len(), 50);
            assert_eq!(
                receipts.iter().filter(|(_, receipt)| receipt.digest.is_some()).count(),
                48
            );
            world.pass(Interval::mins(2)).await;
            assert_eq!(world.told("page").len(), 3, "everything was told once");
        })
        .await;
}

#[tokio::test]
async fn an_alert_that_ends_while_it_is_silenced_is_told_to_whoever_asks_for_that() {
    for (asks, expected) in [(false, 1), (true, 2)] {
        let yaml = ONE.replace(
            "{name: page,",
            &format!("{{name: page, send_silenced_resolved: {asks},"),
        );
        World::new()
            .run(&yaml, async |world, manager| {
                let fire = alert("A", &[], START);
                manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
                world.pass(Interval::secs(3)).await;
                let silence = Silence {
                    id: String::new(),
                    matchers: vec![SilenceMatcher {
                        name: "alertname".to_owned(),
                        value: "A".to_owned(),
                        is_regex: false,
                        is_equal: true,
                    }],
                    starts_at: START,
                    ends_at: START + Interval::hours(1),
                    updated_at: START,
                    created_by: "me".to_owned(),
                    comment: "c".to_owned(),
                    annotations: Default::default(),
                    calendar: None,
                };
                manager.set_silence(silence).await.unwrap();
                let over = resolved(&fire, world.clock.now());
                manager.receive(vec![over], Origin::Rules).await.unwrap();
                world.pass(Interval::secs(15)).await;
                assert_eq!(world.told("page").len(), expected, "asks: {asks}");
            })
            .await;
    }
}

#[tokio::test]
async fn an_urgent_alert_does_not_wait_for_its_groups_next_look() {
    let yaml = "route: {receiver: page, group_wait: 1s, group_interval: 5m, group_urgent: severity=critical}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            manager
                .receive(vec![alert("B", &[], world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            assert_eq!(world.told("page").len(), 1);
            let urgent = alert("C", &[("severity", "critical")], world.clock.now());
            manager.receive(vec![urgent.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(1)).await;
            assert_eq!(states(&world.told("page")[1]).len(), 3);
            manager.receive(vec![urgent], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(30)).await;
            assert_eq!(world.told("page").len(), 2, "the same alert is urgent once");
        })
        .await;
}

#[tokio::test]
async fn the_dead_mans_switch_hears_of_us_while_pages_get_out() {
    let yaml = "global: {dead_mans_switch: {url: 'http://outside/alive', interval: 10s, overdue: 30s, watchdog: [alertname=Watchdog]}}\n\
        route: {receiver: page, group_wait: 0s, group_interval: 1m}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    let log = Arc::new(MemLog::new());
    World::with_log(log.clone())
        .run(yaml, async |world, manager| {
            let words = || world.seconds_of("alive").len();
            world.pass(Interval::secs(30)).await;
            assert_eq!(words(), 0, "the watchdog does not fire");
            manager
                .receive(vec![alert("Watchdog", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(30)).await;
            let before = words();
            assert!((2..=4).contains(&before), "{before}");
            log.refuse(Some(LogError::DiskFull("no room".to_owned())));
            let _ = manager.receive(vec![alert("B", &[], START)], Origin::Rules).await;
            world.pass(Interval::secs(30)).await;
            assert_eq!(words(), before, "the log takes nothing");
            log.refuse(None);
            for _ in 0..200 {
                world.http.script_status("page", 503);
            }
            manager
                .receive(vec![alert("C", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(3)).await;
            let stuck = words();
            world.pass(Interval::secs(60)).await;
            assert_eq!(words(), stuck, "a message is overdue");
        })
        .await;
}

#[tokio::test]
async fn a_receiver_that_is_down_is_asked_by_one_message_at_a_time_and_health_says_so() {
    let yaml = "route: {receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 5m}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            for _ in 0..40 {
                world.http.script_status("page", 503);
            }
            let alerts = (0..100).map(|n| alert("A", &[("n", &n.to_string())], START)).collect();
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(12)).await;
            let asked = world.http.sent().len();
            assert!(asked <= 30, "{asked} requests in twelve seconds of outage");
            let health = &manager.health()[0];
            assert_eq!((health.state, health.waiting), ("open", 100));
            world.pass(Interval::mins(5)).await;
            assert_eq!(world.told("page").len(), 140, "40 refused, 100 arrived");
            assert_eq!(manager.health()[0].state, "ok");
        })
        .await;
}

#[tokio::test]
async fn an_explanation_says_what_keeps_an_alert_back() {
    World::new()
        .run(INHIBIT, async |world, manager| {
            let target = alert("Target", &[("severity", "warning"), ("site", "a")], START);
            let source = alert("Source", &[("severity", "critical"), ("site", "a")], START);
            let unknown = manager.explain(&target.labels);
            assert_eq!((unknown.state, unknown.groups.len()), ("unknown", 1));
            manager
                .receive(vec![target.clone(), source.clone()], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(2)).await;
            let why = |labels: &Labels| manager.explain(labels).groups[0].integrations[0].why.clone();
            assert!(
                why(&target.labels).starts_with("inhibited by {alertname=\"Source\""),
                "{}",
                why(&target.labels)
            );
            assert!(
                why(&source.labels).starts_with("told at 2023-11-14T22:13:20"),
                "{}",
                why(&source.labels)
            );
            assert!(manager.explain(&source.labels).groups[0].integrations[0].told_firing);
        })
        .await;
}

#[tokio::test]
async fn a_preview_shows_every_message_and_no_secret_and_sends_nothing() {
    let mut world = World::new();
    let manager = world.open(PRESETS);
    let shown = PreviewAlert {
        alert: alert("Boom", &[("instance", "a")], START),
        resolved: false,
    };
    let rendered = manager.preview(None, vec![shown.clone()]).unwrap();
    assert_eq!(rendered.len(), 14);
    for one in &rendered {
        assert_eq!(one.error, None, "{}", one.integration);
        let all = format!("{one:?}");
        assert!(!all.contains("KEY"), "{all}");
    }
    assert!(
        rendered
            .iter()
            .any(|one| one.bodies.iter().any(|body| body.contains("Boom")))
    );
    assert!(world.http.sent().is_empty());
    assert!(manager.preview(Some("nobody"), vec![shown]).is_err());
    let mail = world.open(MAIL);
    let shown = PreviewAlert {
        alert: alert("Mail", &[("team", "x")], START),
        resolved: true,
    };
    let rendered = mail.preview(Some("mail"), vec![shown]).unwrap();
    assert!(
        rendered[0].headers.contains("[RESOLVED]") && rendered[0].bodies[0].contains("<html"),
        "{:?}",
        rendered[0].headers
    );
}

#[test]
fn contradictions_of_the_extensions_are_refused() {
    let disk = SimDisk::seeded(1);
    for (receivers, reason) in [
        ("[{name: r, fallback: x}]", "undefined receiver \"x\" used as fallback"),
        (
            "[{name: r, fallback: s, webhook_configs: [{url: 'http://a/'}]}, {name: s, fallback: r, webhook_configs: [{url: 'http://a/'}]}]",
            "fall back on each other",
        ),
        ("[{name: r, fallback: s}, {name: s}]", "told by no means"),
        ("[{name: r, burst: 3}]", "burst needs a rate"),
        ("[{name: r, rate: fast}]", "is no rate"),
        ("[{name: r, give_up_after: 0s}]", "give_up_after must be"),
        (
            "[{name: r, email_configs: [{to: a@b.c, from: a@b.c, smarthost: 'm:25', tls_config: {max_version: TLS12}}]}]",
            "cannot be kept for e-mail",
        ),
    ] {
        let text = format!("route: {{receiver: r}}\nreceivers: {receivers}\n");
        let error = Config::parse(&disk, "am.yml", &text, "/".as_ref())
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{receivers}: {error}");
    }
}
