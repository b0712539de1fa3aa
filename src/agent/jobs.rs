//! Scrape jobs: which targets there are, and a task for each of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::AgentParts;
use super::config::{HttpSdConfig, ScrapeConfig, StaticConfig};
use super::outlet::Outlet;
use super::rounds::{Ticks, finish_round};
use super::scrape::{self, Collected, Round, Tracker};
use super::target::{self, Credentials, Found, Pace, Target};
use super::targets::{Outcome, Targets};
use crate::io::http_client::HttpRequest;
use crate::io::{Shutdown, ShutdownHandle, files};
use crate::model::Interval;

/// Lists of targets are read again this often at least.
const REFRESH_MAX: Interval = Interval(30_000);

/// One scrape config: keeps a task for each of its targets.
pub(super) struct Job {
    pub(super) config: Arc<ScrapeConfig>,
    pub(super) pace: Pace,
    pub(super) parts: AgentParts,
    pub(super) outlet: Arc<Outlet>,
    pub(super) shown: Arc<Targets>,
}

/// What each list of targets said last: a list that cannot be read keeps them.
#[derive(Default)]
struct Seen {
    files: HashMap<PathBuf, Vec<StaticConfig>>,
    urls: HashMap<String, Vec<StaticConfig>>,
}

impl Job {
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Target, ShutdownHandle> = HashMap::new();
        let mut seen = Seen::default();
        let files = self.config.file_sd_configs.iter().map(|sd| sd.refresh_interval);
        let urls = self.config.http_sd_configs.iter().map(|sd| sd.refresh_interval);
        let refresh = files.chain(urls).min();
        loop {
            let found = self.found(&mut seen).await;
            let pace = (self.pace.interval.to_string(), self.pace.timeout.to_string());
            self.shown
                .found(&self.config.job_name, &found, &self.config.relabel_configs, pace);
            let wanted: Vec<Target> = found.into_iter().filter_map(|found| found.target).collect();
            // Dropping its handle tells a target that it is gone.
            running.retain(|target, _| wanted.contains(target));
            for target in wanted {
                if let Entry::Vacant(place) = running.entry(target) {
                    let (handle, gone) = ShutdownHandle::new();
                    tasks.spawn(self.scraper(place.key()).run(gone, shutdown.clone()));
                    place.insert(handle);
                }
            }
            let again = async {
                match refresh {
                    Some(every) => self.parts.clock.sleep(every.min(REFRESH_MAX)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = again => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn scraper(&self, target: &Target) -> Scraper {
        Scraper {
            target: target.clone(),
            config: Arc::clone(&self.config),
            pace: self.pace,
            parts: self.parts.clone(),
            outlet: Arc::clone(&self.outlet),
            shown: Arc::clone(&self.shown),
        }
    }

    /// Returns the targets of now, those that relabelling drops too.
    async fn found(&self, seen: &mut Seen) -> Vec<Found> {
        let mut groups = self.config.static_configs.clone();
        let patterns = self.config.file_sd_configs.iter().flat_map(|sd| &sd.files);
        let mut present = Vec::new();
        for pattern in patterns {
            match files::glob(&*self.parts.disk, Path::new(pattern)) {
                Ok(paths) => present.extend(paths),
                Err(error) => tracing::warn!(pattern, %error, "file_sd_configs: cannot list"),
            }
        }
        for path in present {
            match self.read_targets(&path) {
                Ok(groups) => drop(seen.files.insert(path.clone(), groups)),
                Err(error) => tracing::warn!(error, "file_sd_configs: the file keeps the targets it had"),
            }
            groups.extend(seen.files.get(&path).into_iter().flatten().cloned());
        }
        for sd in &self.config.http_sd_configs {
            match self.fetch_targets(sd).await {
                Ok(groups) => drop(seen.urls.insert(sd.url.clone(), groups)),
                Err(error) => tracing::warn!(
                    url = sd.url,
                    error,
                    "http_sd_configs: the list keeps the targets it had"
                ),
            }
            groups.extend(seen.urls.get(&sd.url).into_iter().flatten().cloned());
        }
        let mut found: Vec<Found> = Vec::new();
        for one in groups
            .iter()
            .flat_map(|group| target::targets(&self.config, group, self.pace))
        {
            let is_known = one.target.is_some() && found.iter().any(|other| other.target == one.target);
            if !is_known {
                found.push(one);
            }
        }
        let max = self.config.target_limit;
        if max > 0 && found.iter().filter(|found| found.target.is_some()).count() > max {
            tracing::error!(
                job = self.config.job_name,
                target_limit = max,
                "over the target_limit: nothing of the job is scraped"
            );
            found.iter_mut().for_each(|found| found.target = None);
        }
        found
    }

    /// Asks an HTTP service discovery: a JSON list of groups.
    async fn fetch_targets(&self, sd: &HttpSdConfig) -> Result<Vec<StaticConfig>, String> {
        let credentials = Credentials {
            basic: sd.basic_auth.as_ref(),
            token: sd.authorization.as_ref(),
        };
        let mut headers = vec![
            ("Accept".to_owned(), "application/json".to_owned()),
            (
                "X-Prometheus-Refresh-Interval-Seconds".to_owned(),
                (sd.refresh_interval.0 as f64 / 1000.0).to_string(),
            ),
        ];
        headers.extend(credentials.header(&*self.parts.disk)?);
        let request = HttpRequest {
            method: "GET".to_owned(),
            url: sd.url.clone(),
            headers,
            body: bytes::Bytes::new(),
            timeout: Interval::secs(30),
            options: target::options(&sd.tls_config, true, &*self.parts.disk)?,
        };
        let answer = self
            .parts
            .client
            .send(request)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("server returned HTTP status {}", answer.status));
        }
        let mut groups: Vec<StaticConfig> = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        for group in &mut groups {
            group.labels.insert("__meta_url".to_owned(), sd.url.clone());
        }
        Ok(groups)
    }

    fn read_targets(&self, path: &Path) -> Result<Vec<StaticConfig>, String> {
        let name = path.display().to_string();
        let text = files::read_text(&*self.parts.disk, path).map_err(|error| format!("{name}: {error}"))?;
        // JSON is YAML.
        crate::model::yaml::read(&name, &text).map_err(|error| error.to_string())
    }
}

/// One target.
struct Scraper {
    target: Target,
    config: Arc<ScrapeConfig>,
    pace: Pace,
    parts: AgentParts,
    outlet: Arc<Outlet>,
    shown: Arc<Targets>,
}

impl Scraper {
    async fn run(self, mut gone: Shutdown, mut shutdown: Shutdown) {
        let clock = &self.parts.clock;
        let mut tracker = Tracker::new(self.target.labels.clone());
        let mut ticks = Ticks::new(&**clock, self.pace.interval);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = gone.requested() => {
                    self.outlet.put(Collected::floats(tracker.end(clock.now())), &[]).await;
                    return;
                }
                () = clock.sleep_until(ticks.due()) => {}
            }
            let (at, before) = (ticks.stamp(clock.now()), clock.mono());
            let round = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                round = self.scrape() => round,
            };
            let job = &self.config.job_name;
            let outcome = Outcome {
                at,
                seconds: clock.mono().seconds_since(before),
                error: round.as_ref().err().cloned(),
            };
            self.shown.scraped(job, &self.target, outcome);
            finish_round(&mut tracker, &self.outlet, clock, at, before, job, round).await;
            ticks.next(clock.mono());
        }
    }

    async fn scrape(&self) -> Result<Round, String> {
        let credentials = Credentials {
            basic: self.config.basic_auth.as_ref(),
            token: self.config.authorization.as_ref(),
        };
        let auth = credentials.header(&*self.parts.disk)?;
        let options = target::options(&self.config.tls_config, self.config.follow_redirects, &*self.parts.disk)?;
        let client = &*self.parts.client;
        let page = scrape::fetch(client, &self.target.url, auth, &self.config, options, self.pace.timeout);
        scrape::read_page(&page.await?, &self.target.labels, &self.config)
    }
}
