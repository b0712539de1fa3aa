//! Clicks through the real binary: senders in parallel with retries, duplicates and late events, `kill -9` in between, and an
//! oracle that shares nothing with the server: what was sent, as sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{self, Client, now};
use super::process::{Server, eventually};

const MINUTE: i64 = 60_000;
const SENDERS: usize = 4;
const KILLS: usize = 5;

/// One click as the oracle knows it: the id, the ad and when.
type Click = (String, String, i64);

#[derive(Default)]
struct Oracle {
    sent: BTreeSet<Click>,
    acknowledged: BTreeSet<Click>,
}

fn body(clicks: &[Click]) -> Vec<u8> {
    let events: Vec<Value> = clicks
        .iter()
        .map(|(id, ad, at)| json!({"event_id": id, "type": "click", "ad_id": ad, "campaign_id": "c1", "country": "DE", "ts": at}))
        .collect();
    json!({"events": events}).to_string().into_bytes()
}

fn collect(url: &str, clicks: &[Click]) -> Option<Value> {
    let headers = [("content-type", "application/json")];
    let answer = client::request("POST", &format!("{url}/collect"), &headers, &body(clicks)).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// A generator of its own: no crate decides what the oracle expects.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Sends batches until told to stop; a batch without an answer is sent again later, whole or in part.
fn send(sender: u64, url: &str, oracle: &Mutex<Oracle>, stop: &AtomicBool, answered: &AtomicU64) {
    let mut dice = Dice(sender);
    let (mut number, mut unanswered): (u64, Vec<Click>) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let mut batch: Vec<Click> = (0..1 + dice.below(20))
            .map(|_| {
                number += 1;
                let late = if dice.below(10) == 0 {
                    50 * MINUTE as u64
                } else {
                    30_000
                };
                let at = now() - dice.below(late) as i64;
                (format!("s{sender}-{number}"), format!("ad-{}", dice.below(5)), at)
            })
            .collect();
        let again = dice.below(1 + unanswered.len() as u64) as usize;
        batch.extend(unanswered.drain(..again));
        batch.extend(batch.first().cloned());
        {
            let mut oracle = oracle.lock().unwrap();
            oracle.sent.extend(batch.iter().cloned());
            if let Some(old) = oracle.acknowledged.iter().nth(dice.below(50) as usize) {
                batch.push(old.clone());
            }
        }
        match collect(url, &batch) {
            Some(answer) => {
                let of = |name: &str| answer[name].as_u64().unwrap();
                assert_eq!(of("accepted") + of("duplicate"), batch.len() as u64, "{answer}");
                answered.fetch_add(1, Ordering::Relaxed);
                oracle.lock().unwrap().acknowledged.extend(batch);
            }
            None => {
                unanswered.extend(batch);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// What the server counts: clicks by ad and minute.
fn counted(client: &Client, from: i64, to: i64) -> BTreeMap<(String, i64), i64> {
    let mut cells = BTreeMap::new();
    for ad in (0..5).map(|ad| format!("ad-{ad}")) {
        let path = format!("/api/v1/ads/{ad}/aggregated_count?from={from}&to={to}&step=1m");
        let answer = client.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let data = answer.json()["data"].clone();
        let mut sum = 0;
        for step in data["series"].as_array().unwrap() {
            let (at, count) = (step[0].as_i64().unwrap(), step[1].as_i64().unwrap());
            sum += count;
            if count != 0 {
                cells.insert((ad.clone(), at), count);
            }
        }
        assert_eq!(data["count"].as_i64(), Some(sum), "{ad}");
    }
    cells
}

fn cells<'a>(clicks: impl Iterator<Item = &'a Click>) -> BTreeMap<(String, i64), i64> {
    let mut cells = BTreeMap::new();
    for (_, ad, at) in clicks {
        *cells.entry((ad.clone(), at / MINUTE * MINUTE)).or_insert(0) += 1;
    }
    cells
}

fn assert_within(
    low: &BTreeMap<(String, i64), i64>,
    found: &BTreeMap<(String, i64), i64>,
    high: &BTreeMap<(String, i64), i64>,
) {
    for (cell, count) in low {
        let found = found.get(cell).copied().unwrap_or(0);
        assert!(found >= *count, "{cell:?}: {count} acknowledged, {found} counted");
    }
    for (cell, count) in found {
        let sent = high.get(cell).copied().unwrap_or(0);
        assert!(*count <= sent, "{cell:?}: {sent} sent, {count} counted");
    }
}

#[test]
fn killed_again_and_again_under_load_the_server_counts_each_click_once() {
    let mut server = Server::new();
    server.write("campanile.yaml", "agent: {enabled: false}\nevents: {checkpoint: 1s}\n");
    server.start();
    let (url, client) = (server.url(), server.client());
    let from = (now() - 3 * 60 * MINUTE) / MINUTE * MINUTE;
    let to = from + 6 * 60 * MINUTE;
    let (oracle, stop, answered) = (Mutex::new(Oracle::default()), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..SENDERS as u64 {
            let (url, oracle, stop, answered) = (&url, &oracle, &stop, &answered);
            scope.spawn(move || send(sender, url, oracle, stop, answered));
        }
        for _ in 0..KILLS {
            let before = answered.load(Ordering::Relaxed);
            eventually("batches are answered", 60, || {
                (answered.load(Ordering::Relaxed) > before + 60).then_some(())
            });
            server.kill();
            server.start();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let oracle = oracle.into_inner().unwrap();
    let found = counted(&client, from, to);
    assert_within(&cells(oracle.acknowledged.iter()), &found, &cells(oracle.sent.iter()));
    let all: Vec<Click> = oracle.sent.iter().cloned().collect();
    for batch in all.chunks(500) {
        collect(&url, batch).expect("the server is up");
    }
    assert_eq!(
        counted(&client, from, to),
        cells(oracle.sent.iter()),
        "after every click was sent once more"
    );
    let path = format!("/api/v1/ads/popular_ads?from={from}&to={to}&count=10");
    let top = client.get(&path).json()["data"]["ads"].clone();
    let sum: i64 = top
        .as_array()
        .unwrap()
        .iter()
        .map(|ad| ad["count"].as_i64().unwrap())
        .sum();
    assert_eq!(sum as usize, oracle.sent.len());
    server.terminate();
    server.start();
    assert_eq!(
        counted(&client, from, to),
        cells(oracle.sent.iter()),
        "after a clean restart"
    );
}

#[test]
fn clicks_are_series_of_the_query_language() {
    let mut server = Server::new();
    server.write(
        "campanile.yaml",
        "agent: {enabled: false}\nevents: {idle: 1s, lateness: 1s}\n",
    );
    server.start();
    let client = server.client();
    let at = (now() - 10 * MINUTE) / MINUTE * MINUTE;
    let clicks: Vec<Click> = (0..30)
        .map(|n| (format!("e{n}"), format!("ad-{}", n % 4), at + i64::from(n % 3) * MINUTE))
        .collect();
    let answer = collect(&server.url(), &clicks).unwrap();
    assert_eq!(answer["accepted"], 30);
    let ask = |query: &str| {
        let answer = client.get(&format!(
            "/api/v1/query?query={}&time={}",
            client::encode(query),
            now() / 1000
        ));
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{answer}");
        let result = answer["data"]["result"].as_array().unwrap().clone();
        let row = |row: &Value| {
            (
                row["metric"]["ad_id"].as_str().unwrap_or("").to_owned(),
                row["value"][1].as_str().unwrap().to_owned(),
            )
        };
        result.iter().map(row).collect::<Vec<_>>()
    };
    let pair = |ad: &str, value: &str| (ad.to_owned(), value.to_owned());
    assert_eq!(ask("sum(sum_over_time(ads_net_clicks_1m[1h]))"), [pair("", "30")]);
    let top = ask("topk(2, sum by (ad_id) (sum_over_time(ads_net_clicks_1m[1h])))");
    assert_eq!(top, [pair("ad-0", "8"), pair("ad-1", "8")]);
    let campaign = "sum by (campaign_id) (sum_over_time(ads_net_clicks_1m{country=\"DE\"}[1h]))";
    assert_eq!(ask(campaign), [pair("", "30")]);
    let both = "sum by (ad_id) (sum_over_time(ads_net_clicks_1m[1h])) / on () group_left () sum(sum_over_time(ads_net_clicks_1m[1h]))";
    assert_eq!(ask(both).len(), 4);
    let status = client.get("/api/v1/events/status").json();
    assert_eq!(
        (&status["data"]["accepted"], &status["data"]["duplicate"]),
        (&json!(30), &json!(0))
    );
    let filtered = client.get(&format!(
        "/api/v1/ads/*/aggregated_count?from={at}&to={}&publisher=",
        at + 60 * MINUTE
    ));
    assert_eq!(filtered.json()["data"]["count"], 30, "{}", filtered.text());
}
