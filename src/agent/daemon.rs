//! The agent at work: one task for the host, one for each target, one for each server.
//!
//! The first collection is made at once, then one every interval. All samples of a collection bear the time it was due:
//! regular times compress best, and rates over them are exact.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::collect::Host;
use super::config::AgentConfig;
use super::jobs::Job;
use super::outlet::{Outlet, Remote, RemoteQueue};
use super::push::Sender;
use super::queue::Queue;
use super::rounds::{run_heartbeat, run_host};
use super::scrape::Collected;
use super::target::{self, Pace};
use super::targets::Targets;
use crate::io::disk::Disk;
use crate::io::http_client::HttpClient;
use crate::io::{Clock, Random, Shutdown};
use crate::model::{Labels, OwnedSeries, WriteBatch};
use crate::storage::{self, AppendError, AppendReport, Appender, REFUSALS_MAX, Refusal, RefusalReason};

/// The world outside.
#[derive(Clone)]
pub struct AgentParts {
    /// Files: `/proc`, secrets, target lists.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for backoff.
    pub random: Arc<dyn Random>,
    /// HTTP, for scrapes and pushes.
    pub client: Arc<dyn HttpClient>,
}

/// The agent, ready to run.
pub struct Agent {
    config: AgentConfig,
    parts: AgentParts,
    outlet: Arc<Outlet>,
    senders: Vec<Sender>,
    targets: Arc<Targets>,
}

impl Agent {
    /// Opens the queues. Blocks.
    ///
    /// # Errors
    /// The section of the configuration, the file or the queue that is wrong.
    pub fn new(config: AgentConfig, parts: AgentParts, queues: Vec<RemoteQueue>) -> Result<Agent, String> {
        config.check()?;
        let mut senders: Vec<Sender> = Vec::new();
        for RemoteQueue { config, log } in queues {
            let label = config.label();
            if senders.iter().any(|sender| sender.label == label) {
                return Err(format!(
                    "remote_write: two servers are named {label:?}, give one a name"
                ));
            }
            let limits = &config.queue_config;
            let queue = Queue::open(label.clone(), log, limits.queue_bytes_max, limits.sample_age_limit);
            senders.push(Sender {
                queue: Arc::new(queue.map_err(|error| format!("queue {label}: {error}"))?),
                label,
                client: Arc::clone(&parts.client),
                disk: Arc::clone(&parts.disk),
                clock: Arc::clone(&parts.clock),
                random: Arc::clone(&parts.random),
                options: target::options(&config.tls_config, false, &*parts.disk)?,
                config,
            });
        }
        let remotes = senders.iter().map(|sender| Remote {
            config: sender.config.clone(),
            label: sender.label.clone(),
            queue: Arc::clone(&sender.queue),
        });
        let outlet = Arc::new(Outlet {
            remotes: remotes.collect(),
            external: Labels::from_pairs(&config.external_labels),
            clock: Arc::clone(&parts.clock),
        });
        Ok(Agent {
            config,
            parts,
            outlet,
            senders,
            targets: Arc::default(),
        })
    }

    /// Shows what is scraped in `targets`.
    #[must_use]
    pub fn with_targets(self, targets: Arc<Targets>) -> Agent {
        Agent { targets, ..self }
    }

    /// Returns where received samples go in, to be forwarded.
    pub fn forwarder(&self) -> Forwarder {
        Forwarder {
            outlet: Arc::clone(&self.outlet),
        }
    }

    /// Runs until `shutdown`; what is not pushed by then stays in the queue.
    pub async fn run(self, shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        for sender in self.senders {
            tasks.spawn(sender.run(shutdown.clone()));
        }
        let host = Host::new(
            Arc::clone(&self.parts.disk),
            Arc::clone(&self.parts.clock),
            &self.config.host_root,
        );
        let host = host.with_textfiles(self.config.textfile_directory.clone());
        if self.config.heartbeat {
            let (clock, outlet) = (Arc::clone(&self.parts.clock), Arc::clone(&self.outlet));
            let (name, interval) = (host.name(), self.config.interval);
            tasks.spawn(run_heartbeat(name, clock, outlet, interval, shutdown.clone()));
        }
        if self.config.host {
            let clock = Arc::clone(&self.parts.clock);
            let outlet = Arc::clone(&self.outlet);
            tasks.spawn(run_host(host, clock, outlet, self.config.interval, shutdown.clone()));
        }
        for config in self.config.scrape_configs {
            let job = Job {
                pace: Pace::of(&config, self.config.interval),
                config: Arc::new(config),
                parts: self.parts.clone(),
                outlet: Arc::clone(&self.outlet),
                shown: Arc::clone(&self.targets),
            };
            tasks.spawn(job.run(shutdown.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Takes what programs on the host sent to the agent, for every server's queue: an appender, so that the intake's doors work
/// in front of it as they do in front of a store.
#[derive(Clone)]
pub struct Forwarder {
    outlet: Arc<Outlet>,
}

impl Appender for Forwarder {
    fn append(&self, batch: WriteBatch) -> storage::BoxFuture<'_, Result<AppendReport, AppendError>> {
        Box::pin(async move {
            let mut report = AppendReport::default();
            let mut collected = Collected::default();
            for (index, series) in batch.series.iter().enumerate() {
                let samples = &batch.samples[series.samples.start as usize..series.samples.end as usize];
                let histograms = &batch.histograms[series.histograms.start as usize..series.histograms.end as usize];
                match batch.labels.labels(index) {
                    Ok(labels) => {
                        report.samples += samples.len() as u64;
                        report.histograms += histograms.len() as u64;
                        let each = histograms.iter().map(|sample| (labels.clone(), sample.clone()));
                        collected.histograms.extend(each);
                        if !samples.is_empty() {
                            collected.series.push(OwnedSeries {
                                labels,
                                samples: samples.to_vec(),
                            });
                        }
                    }
                    Err(error) => {
                        report.refused += (samples.len() + histograms.len()) as u64;
                        report.refusals.push(Refusal {
                            series: error.series,
                            at: None,
                            reason: RefusalReason::InvalidLabels(error.reason),
                        });
                    }
                }
            }
            report.refusals.truncate(REFUSALS_MAX);
            let put = self.outlet.try_put(collected, &batch.metadata).await;
            put.map_err(AppendError::Closed)?;
            Ok(report)
        })
    }
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
