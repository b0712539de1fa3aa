//! Where collected series go: as finished bodies into the durable queue of each server.

use std::path::Path;
use std::sync::Arc;

use super::metrics::DROPPED;
use super::queue::Queue;
use super::remote::RemoteWriteConfig;
use super::scrape::Collected;
use crate::ingest::relabel::relabel;
use crate::ingest::remote_write::{encode_v1, encode_v1_histograms};
use crate::io::Clock;
use crate::io::disk::Disk;
use crate::io::log::{FileLog, Log, SegmentOptions};
use crate::model::{Labels, MetricMetadata};

/// Small segments, so that what was sent is soon forgotten on the disk too.
const SEGMENT_BYTES: u64 = 4 << 20;

/// A server and the log in which requests to it wait.
pub struct RemoteQueue {
    /// The server.
    pub config: RemoteWriteConfig,
    /// The queue's log.
    pub log: Arc<dyn Log>,
}

/// Opens a log below `dir` for each server. Blocks.
///
/// # Errors
/// The queue that cannot be opened.
pub fn open_queues(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    remotes: &[RemoteWriteConfig],
) -> Result<Vec<RemoteQueue>, String> {
    let options = SegmentOptions {
        segment_bytes: SEGMENT_BYTES,
        ..SegmentOptions::default()
    };
    let open = |remote: &RemoteWriteConfig| {
        let path = dir.join(remote.label());
        let (log, damage) = FileLog::open(Arc::clone(disk), &path, options)
            .map_err(|error| format!("queue {}: {error}", path.display()))?;
        for damage in damage {
            tracing::error!(?damage, "the agent's queue is damaged: the rest goes on");
        }
        Ok(RemoteQueue {
            config: remote.clone(),
            log: Arc::new(log),
        })
    };
    remotes.iter().map(open).collect()
}

/// Where collected series go.
pub(super) struct Outlet {
    pub(super) remotes: Vec<Remote>,
    pub(super) external: Labels,
    pub(super) clock: Arc<dyn Clock>,
}

/// One server's rules and queue.
pub(super) struct Remote {
    pub(super) config: RemoteWriteConfig,
    pub(super) label: String,
    pub(super) queue: Arc<Queue>,
}

impl Outlet {
    /// Puts samples into every queue, durably; a queue that fails is counted and logged.
    pub(super) async fn put(&self, collected: Collected, metadata: &[MetricMetadata]) {
        // What fails is counted and logged where it happens.
        let _ = self.try_put(collected, metadata).await;
    }

    /// As [`Outlet::put`], for callers that can do something about a failure.
    ///
    /// # Errors
    /// The last queue that did not take its share.
    pub(super) async fn try_put(&self, collected: Collected, metadata: &[MetricMetadata]) -> Result<(), String> {
        let mut result = Ok(());
        for remote in &self.remotes {
            let batch = remote.config.queue_config.max_samples_per_send.max(1);
            let mut metadata = metadata;
            let series = self.labelled(remote, &collected.series, |one| &one.labels);
            let series = series.into_iter().map(|(labels, one)| crate::model::OwnedSeries {
                labels,
                samples: one.samples.clone(),
            });
            let series: Vec<crate::model::OwnedSeries> = series.collect();
            for chunk in series.chunks(batch) {
                result = self
                    .enqueue(remote, encode_v1(chunk, metadata), chunk.len())
                    .await
                    .and(result);
                metadata = &[];
            }
            let histograms = self.labelled(remote, &collected.histograms, |(labels, _)| labels);
            let histograms: Vec<_> = histograms
                .into_iter()
                .map(|(labels, (_, one))| (labels, one.clone()))
                .collect();
            for chunk in histograms.chunks(batch) {
                result = self
                    .enqueue(remote, encode_v1_histograms(chunk), chunk.len())
                    .await
                    .and(result);
            }
        }
        result
    }

    async fn enqueue(&self, remote: &Remote, plain: Vec<u8>, samples: usize) -> Result<(), String> {
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        let put = match snap::raw::Encoder::new().compress_vec(&plain) {
            Ok(body) => {
                let put = remote.queue.put(self.clock.now(), samples, &body).await;
                put.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &put {
            DROPPED.add(&[&remote.label, "queue_failed"], u64::from(samples));
            tracing::error!(remote = remote.label, samples, error, "the queue takes no samples");
        }
        put
    }

    /// Puts external labels on and applies the server's own rules.
    fn labelled<'a, T>(&self, remote: &Remote, all: &'a [T], labels: impl Fn(&T) -> &Labels) -> Vec<(Labels, &'a T)> {
        let rules = &remote.config.write_relabel_configs;
        let change = |one: &'a T| {
            let own = labels(one);
            if rules.is_empty() && self.external.is_empty() {
                return Some((own.clone(), one));
            }
            let mut builder = own.to_builder();
            for (name, value) in self.external.iter() {
                if builder.get(name).is_none() {
                    builder.set(name, value);
                }
            }
            relabel(rules, &mut builder).then(|| (builder.build(), one))
        };
        all.iter().filter_map(change).collect()
    }
}
