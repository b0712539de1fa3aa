//! What is told, to whom and when, as Alertmanager's file says.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_page_goes_out_after_the_wait_and_the_end_is_told_at_the_next_tick() {
    World::new()
        .run(ONE, async |world, manager| {
            let fire = alert("A", &[("x", "1")], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval(900)).await;
            assert!(world.told("page").is_empty());
            world.pass(Interval(200)).await;
            let told = world.told("page");
            assert_eq!(told.len(), 1);
            let keys: Vec<&String> = told[0].as_object().unwrap().keys().collect();
            assert_eq!(
                keys,
                [
                    "receiver",
                    "status",
                    "alerts",
                    "notification_reason",
                    "groupLabels",
                    "commonLabels",
                    "commonAnnotations",
                    "externalURL",
                    "version",
                    "groupKey",
                    "truncatedAlerts"
                ]
            );
            assert_eq!(told[0]["groupKey"], r#"{}:{alertname="A"}"#);
            assert_eq!(told[0]["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
            assert_eq!(told[0]["alerts"][0]["startsAt"], "2023-11-14T22:13:20Z");
            world.pass(Interval::secs(2)).await;
            let over = resolved(&fire, world.clock.now());
            manager.receive(vec![over], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(30)).await;
            let told = world.told("page");
            assert_eq!(told.len(), 2);
            assert_eq!(
                (&told[1]["status"], &told[1]["notification_reason"]),
                (&"resolved".into(), &"all alerts resolved".into())
            );
            assert_eq!(world.seconds_of("page"), [1, 6]);
            assert!(manager.groups().is_empty() && manager.receipts().len() == 2);
        })
        .await;
}

#[tokio::test]
async fn the_same_is_repeated_after_the_repeat_interval() {
    World::new()
        .run(ONE, async |world, manager| {
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(130)).await;
            assert_eq!(world.seconds_of("page"), [1, 61, 121]);
        })
        .await;
}

#[tokio::test]
async fn an_inhibited_alert_of_the_same_batch_never_slips_out() {
    World::new()
        .run(INHIBIT, async |world, manager| {
            let target = alert("Target", &[("severity", "warning"), ("site", "a")], START);
            let source = alert("Source", &[("severity", "critical"), ("site", "a")], START);
            manager
                .receive(vec![target, source.clone()], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            assert_eq!(world.told("page").len(), 1);
            assert_eq!(
                states(&world.told("page")[0]),
                [("Source".to_owned(), "firing".to_owned())]
            );
            manager
                .receive(vec![resolved(&source, world.clock.now())], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(3)).await;
            let names: Vec<String> = world
                .told("page")
                .iter()
                .map(|message| states(message)[0].0.clone())
                .collect();
            assert!(names.contains(&"Target".to_owned()), "{names:?}");
        })
        .await;
}

#[tokio::test]
async fn a_silenced_alert_pages_nobody_until_the_silence_ends() {
    World::new()
        .run(ONE, async |world, manager| {
            let silence = Silence {
                id: String::new(),
                matchers: vec![SilenceMatcher {
                    name: "alertname".to_owned(),
                    value: "A".to_owned(),
                    is_regex: false,
                    is_equal: true,
                }],
                starts_at: START,
                ends_at: START + Interval::mins(10),
                updated_at: START,
                created_by: "me".to_owned(),
                comment: "c".to_owned(),
                annotations: Default::default(),
                calendar: None,
            };
            let id = manager.set_silence(silence).await.unwrap();
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(20)).await;
            assert!(world.told("page").is_empty());
            manager.expire_silence(&id).await.unwrap();
            world.pass(Interval::secs(6)).await;
            assert_eq!(world.told("page").len(), 1);
        })
        .await;
}

const TWO: &str = "route: {receiver: page, group_wait: 0s, group_interval: 2s}\n\
    receivers: [{name: page, email_configs: [{to: a@b.c, from: x@y.z, smarthost: 'tarpit:25', require_tls: false}], \
    webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn a_hanging_receiver_delays_nobody_else() {
    World::new()
        .run(TWO, async |world, manager| {
            world.mailer.hang("tarpit");
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(1)).await;
            manager
                .receive(vec![alert("B", &[], world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(3)).await;
            assert_eq!(world.told("page").len(), 2);
        })
        .await;
}

#[tokio::test]
async fn what_fired_and_went_while_the_receiver_was_down_is_told_in_one_message() {
    World::new()
        .run(ONE, async |world, manager| {
            for _ in 0..30 {
                world.http.script_status("page", 503);
            }
            let fire = alert("A", &[], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(7)).await;
            manager
                .receive(vec![resolved(&fire, world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(5)).await;
            let arrived: Vec<Value> = world.told("page").split_off(30);
            assert_eq!(arrived.len(), 1);
            assert_eq!(states(&arrived[0]), [("A".to_owned(), "resolved".to_owned())]);
            let last = manager.receipts().pop().unwrap().1;
            assert_eq!(
                (last.answer.as_str(), last.attempts, last.resolved),
                ("HTTP 200", 31, 1)
            );
        })
        .await;
}

#[tokio::test]
async fn a_refusal_is_not_repeated_at_once_and_a_new_file_is_a_new_try() {
    World::new()
        .run(ONE, async |world, manager| {
            world.http.script_status("page", 403);
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(30)).await;
            assert_eq!(world.seconds_of("page"), [1]);
            let other = ONE.replace("hook/page", "hook/other");
            let config = Config::parse(&*world.disk, "alertmanager.yml", &other, "/".as_ref()).unwrap();
            manager.reload(config).await;
            world.pass(Interval::secs(1)).await;
            assert_eq!(world.seconds_of("other").len(), 1);
        })
        .await;
}

#[tokio::test]
async fn a_mail_is_threaded_retried_and_cannot_be_injected_into() {
    World::new()
        .run(MAIL, async |world, manager| {
            world.mailer.script(MailError::Transient("451 greylisted".to_owned()));
            let fire = alert("A", &[("team", "x\r\nBcc: evil@example.com")], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            manager
                .receive(vec![resolved(&fire, world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            let sent = world.mailer.sent();
            assert_eq!(
                sent.iter().map(|mail| mail.taken).collect::<Vec<_>>(),
                [false, true, true]
            );
            let texts: Vec<String> = sent
                .iter()
                .map(|mail| String::from_utf8(mail.mail.message.clone()).unwrap())
                .collect();
            let header = |text: &str, name: &str| {
                let line = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
                line.map(|line| line[name.len() + 2..].to_owned())
            };
            assert_eq!(header(&texts[0], "Message-Id"), header(&texts[1], "Message-Id"));
            assert_eq!(header(&texts[2], "References"), header(&texts[1], "Message-Id"));
            assert_eq!(header(&texts[1], "X-Team").unwrap(), "x  Bcc: evil@example.com");
            assert!(header(&texts[1], "Subject").unwrap().starts_with("[FIRING:1] A"));
            assert!(texts[1].contains("From: \"Campanile\" <campanile@corp.example>\r\n"));
            assert_eq!(sent[1].mail.to, ["a@b.c", "d@e.f"]);
            assert!(header(&texts[1], "Bcc").is_none());
        })
        .await;
}

#[tokio::test]
async fn after_a_restart_pages_wait_for_the_rules_first_word_and_lost_rules_resolve() {
    let mut world = World::new();
    world
        .run(ONE, async |world, manager| {
            let alerts = vec![alert("A", &[], START), alert("Gone", &[], START)];
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            assert_eq!(world.told("page").len(), 2);
        })
        .await;
    world
        .run(ONE, async |world, manager| {
            let a = alert("A", &[], START);
            manager
                .receive(vec![a.clone(), alert("New", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(10)).await;
            assert_eq!(world.told("page").len(), 2, "held back until the rules have spoken");
            manager.evaluated([a.fingerprint()].into()).await;
            world.pass(Interval::secs(6)).await;
            let told: BTreeSet<(String, String)> = world.told("page")[2..].iter().flat_map(states).collect();
            let expected = [("Gone", "resolved"), ("New", "firing")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(told, expected.into());
        })
        .await;
}

#[test]
fn the_task_can_be_spawned() {
    fn is_send(_: impl Send) {}
    let (_stop, shutdown) = ShutdownHandle::new();
    is_send(World::new().open(ONE).run(shutdown));
}

#[tokio::test]
async fn a_full_disk_does_not_silence_a_page_but_says_so() {
    let log = Arc::new(MemLog::new());
    World::with_log(log.clone())
        .run(ONE, async |world, manager| {
            log.refuse(Some(LogError::DiskFull("no room".to_owned())));
            let answer = manager.receive(vec![alert("A", &[], START)], Origin::Rules).await;
            assert!(matches!(answer, Err(Error::Log(_))));
            world.pass(Interval::secs(2)).await;
            assert_eq!(world.told("page").len(), 1);
        })
        .await;
}

#[tokio::test]
async fn what_comes_from_outside_has_limits_and_what_our_rules_say_has_none() {
    World::new()
        .run(ONE, async |world, manager| {
            let many = |name: &str, count: usize| -> Vec<Alert> {
                let one = |n: usize| alert(name, &[("n", &n.to_string())], START);
                (0..count).map(one).collect()
            };
            let mut huge = many("Huge", 2);
            huge[0].annotations = Labels::from_pairs([("summary", "x".repeat(16 << 10))]);
            let refused = manager.receive(huge, Origin::Api).await.unwrap_err();
            assert!(
                matches!(&refused, Error::TooLarge(text) if text.contains("alert_bytes_max is 16384")),
                "{refused}"
            );
            assert_eq!(manager.alerts().len(), 1, "the other one counts");

            manager.receive(many("Ours", 9_000), Origin::Rules).await.unwrap();
            manager.receive(many("Theirs", 9_999), Origin::Api).await.unwrap();
            let refused = manager.receive(many("Theirs", 10_001), Origin::Api).await.unwrap_err();
            assert!(
                matches!(&refused, Error::Full(text) if text.starts_with("2 new alerts refused")),
                "{refused}"
            );
            manager.receive(many("Theirs", 9_999), Origin::Api).await.unwrap();
            manager.receive(many("Ours", 9_100), Origin::Rules).await.unwrap();
            assert_eq!(manager.alerts().len(), 10_000 + 9_100);
            world.pass(Interval(100)).await;
        })
        .await;
}
