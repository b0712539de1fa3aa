//! What goes over the wire, and which files are read or refused: recorded texts.

use super::*;

#[test]
fn files_are_read_or_refused_as_recorded() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/alertmanager");
    let disk = SimDisk::seeded(1);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(files.len() > 10);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match Config::parse(&disk, &name, &text, "/conf".as_ref()) {
            Ok(config) => {
                assert!(!config.original.contains("hunter2"), "{name}: a secret is shown");
                format!("{:?}\n{}", config.summary(), config.original)
            }
            Err(ConfigError::Yaml(error)) => error.with_snippet() + "\n",
            Err(error) => format!("{error}\n"),
        };
        golden(&name.replace(".yml", ".txt"), &found);
    }
}

#[tokio::test]
async fn presets_send_what_is_recorded() {
    World::new()
        .run(PRESETS, async |world, manager| {
            let a = alert("Boom", &[("instance", "a"), ("severity", "critical")], START);
            let b = alert("Boom", &[("instance", "b"), ("severity", "critical")], START);
            manager
                .receive(vec![a.clone(), b.clone()], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval(500)).await;
            let over = vec![resolved(&a, world.clock.now()), resolved(&b, world.clock.now())];
            manager.receive(over, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            let mut out = String::new();
            let mut sent = world.http.sent();
            sent.sort_by(|a, b| (a.at, &a.request.url).cmp(&(b.at, &b.request.url)));
            for message in sent {
                let request = message.request;
                out.push_str(&format!("{} {}\n", request.method, request.url));
                for (name, value) in request.headers.iter().filter(|(name, _)| name != "Idempotency-Key") {
                    out.push_str(&format!("{name}: {value}\n"));
                }
                let body = String::from_utf8(request.body.to_vec()).unwrap();
                let body = serde_json::from_str::<Value>(&body)
                    .map_or(body, |json| serde_json::to_string_pretty(&json).unwrap());
                out.push_str(&format!("\n{body}\n\n"));
            }
            golden("presets.txt", &out);
        })
        .await;
}

#[tokio::test]
async fn the_stock_mail_is_as_recorded() {
    World::new()
        .run(MAIL, async |world, manager| {
            let labels = [("instance", "host<script>1"), ("team", "growth")];
            manager
                .receive(vec![alert("Mail", &labels, START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval(500)).await;
            let mail = world.mailer.sent().remove(0).mail;
            let text = String::from_utf8(mail.message).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let encoded: String = body
                .split("\r\n\r\n")
                .nth(1)
                .unwrap()
                .split("\r\n--")
                .next()
                .unwrap()
                .replace("\r\n", "");
            let html = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
            let html = String::from_utf8(html).unwrap();
            assert!(!html.contains("<script>1"));
            golden("mail.txt", &format!("{}\n\n{html}", head.replace("\r\n", "\n")));
        })
        .await;
}
