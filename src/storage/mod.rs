//! What may be asked of a store: take these samples ([`Appender`]), show me those ([`Querier`]), wake me when they move
//! ([`Interest`]).
//!
//! The head, blocks, virtual series of clicks and remote nodes all stand behind these traits; the engine and the rules
//! cannot tell them apart. Methods of [`Querier`] block and may be called from many threads; [`Appender`] waits.

mod literal;
mod summary;

use std::sync::Arc;

use crate::model::{
    Exemplar, HistogramSample, Interval, Labels, Matcher, MetricMetadata, Millis, Sample, TimeRange, WriteBatch,
};

pub use literal::LiteralStore;
pub use summary::Summary;

/// A boxed future, so that async methods fit into trait objects (the same type as `io::BoxFuture`).
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes samples.
pub trait Appender: Send + Sync {
    /// Appends the batch. Durable when this resolves: a crash right after keeps all that the report does not refuse.
    ///
    /// Bad series do not disturb good ones: they are listed in the report. The same sample twice counts as a duplicate,
    /// not as an error.
    ///
    /// # Errors
    /// [`AppendError`], with nothing of the batch promised: the sender should retry.
    fn append(&self, batch: WriteBatch) -> BoxFuture<'_, Result<AppendReport, AppendError>>;
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppendReport {
    /// Float samples that are durable now (duplicates included: they were durable before).
    pub samples: u64,
    /// Histograms that are durable now.
    pub histograms: u64,
    /// Exemplars that were kept.
    pub exemplars: u64,
    /// Samples that were there already, with the same value.
    pub duplicates: u64,
    /// Samples and histograms that were refused, in all.
    pub refused: u64,
    /// The first refusals, at most [`REFUSALS_MAX`].
    pub refusals: Vec<Refusal>,
}

/// How many refusals an [`AppendReport`] spells out.
pub const REFUSALS_MAX: usize = 10;

/// One series (or one sample of it) that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The series, as text.
    pub series: String,
    /// The sample's time; `None` when the whole series was refused.
    pub at: Option<Millis>,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a sample or series was not taken. None of these is mended by a retry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefusalReason {
    /// The labels are no valid identity; the text says which and why.
    #[error("{0}")]
    InvalidLabels(String),
    /// Older than the out-of-order window allows.
    #[error("out of order: {behind} older than the series' newest sample, the window is {window}")]
    TooOld {
        /// How far behind the newest sample.
        behind: Interval,
        /// The out-of-order window.
        window: Interval,
    },
    /// Older than retention: it would be deleted at once.
    #[error("older than the retention of {retention}")]
    BeyondRetention {
        /// The configured retention.
        retention: Interval,
    },
    /// Too far in the future.
    #[error("{ahead} ahead of the server's clock, the limit is {limit}")]
    TooFarAhead {
        /// How far ahead.
        ahead: Interval,
        /// The limit.
        limit: Interval,
    },
    /// Another value is stored for the same time.
    #[error("duplicate sample for timestamp: a different value is stored")]
    Conflict,
    /// A limit on series was reached; the text names it.
    #[error("{0}")]
    Limit(String),
    /// The value itself is malformed (a histogram whose buckets do not fit its spans).
    #[error("{0}")]
    InvalidValue(String),
}

/// Why nothing of a batch can be promised. A retry may help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Too much is under way.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The disk is (nearly) full; queries go on.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// The log failed and takes no more until a restart.
    #[error("the write path is closed: {0}")]
    Closed(String),
}

/// What a selector asks for.
#[derive(Clone, Debug)]
pub struct Select {
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// Which samples the caller will look at.
    pub range: TimeRange,
    /// What the caller will do with them: may be ignored.
    pub hints: Hints,
}

/// What the engine will do with a selector's samples. A store may ignore all of it.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The function right above the selector (`rate`, `sum`, …), empty when there is none.
    pub func: String,
    /// The range of a range selector; zero for an instant selector.
    pub window: Interval,
    /// The query's step; zero for an instant query.
    pub step: Interval,
    /// Labels that the aggregation above keeps (`by`), or drops (`without`).
    pub grouping: Option<Grouping>,
    /// The nearest aggregation above, with nothing but functions in between: what a store that makes series for the question
    /// ([`is_made_for_the_question`]) needs to know.
    pub aggregation: Option<Aggregation>,
}

/// An aggregation above a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// `sum`, `topk`, …
    pub op: &'static str,
    /// Its labels.
    pub grouping: Grouping,
}

/// What names of series begin with that a store makes for each question: which labels they have depends on the labels that
/// the question names.
const MADE_FOR_THE_QUESTION: [&str; 2] = ["ads_", "web_"];

/// Whether the series that these matchers select may depend on the aggregation above them.
pub fn is_made_for_the_question(matchers: &[Matcher]) -> bool {
    let mut names = matchers
        .iter()
        .filter(|matcher| matcher.name == crate::model::METRIC_NAME);
    names.any(|name| {
        MADE_FOR_THE_QUESTION
            .iter()
            .any(|prefix| name.value.starts_with(prefix))
    })
}

/// The labels of an aggregation right above a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Label names.
    pub labels: Vec<String>,
    /// Whether they are dropped rather than kept.
    pub without: bool,
}

/// Series found by [`Querier::select`], sorted by labels, each label set once.
pub struct Selection {
    /// The series; their samples are not decoded yet.
    pub series: Vec<Box<dyn Series>>,
    /// What the caller should know: a quarantined block, a node that did not answer.
    pub warnings: Vec<String>,
}

/// One series whose samples are decoded when asked for.
pub trait Series: Send + Sync {
    /// Returns the series' labels.
    fn labels(&self) -> Labels;

    /// Decodes the samples within `range` into `columns`, which is cleared first. Stale markers are included.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when a checksum fails: never a wrong number.
    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError>;

    /// Returns the newest point within `range`, stale marker included; the head answers this without decoding.
    ///
    /// # Errors
    /// As [`Series::columns`].
    fn latest(&self, range: TimeRange) -> Result<Option<Point>, StorageError> {
        let mut columns = Columns::default();
        self.columns(range, &mut columns)?;
        Ok(columns.latest())
    }

    /// Returns what is known of the samples within `range` without decoding all of them; `None` when only the samples tell
    /// (there is none, one is no finite number or a histogram, parts overlap, the store keeps no statistics).
    ///
    /// # Errors
    /// As [`Series::columns`].
    fn summary(&self, _range: TimeRange) -> Result<Option<Summary>, StorageError> {
        Ok(None)
    }
}

/// The samples of one series: times rise strictly within each column. A series may hold floats and histograms, but not
/// both at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// When each float was true, in milliseconds since the epoch.
    pub times: Vec<i64>,
    /// The floats.
    pub values: Vec<f64>,
    /// When each float's counter began: empty, or one for each float (0 = unknown).
    pub start_times: Vec<i64>,
    /// The histograms.
    pub histograms: Vec<HistogramSample>,
    /// When each histogram began to count: empty, or one for each histogram (0 = unknown).
    pub histogram_start_times: Vec<i64>,
}

impl Columns {
    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.start_times.clear();
        self.histograms.clear();
        self.histogram_start_times.clear();
    }

    /// Returns the newest point of either kind.
    pub fn latest(&self) -> Option<Point> {
        let float = self.times.last().zip(self.values.last());
        match (float, self.histograms.last()) {
            (Some((&at, _)), Some(histogram)) if histogram.at.0 > at => Some(Point::Histogram(histogram.clone())),
            (Some((&at, &value)), _) => Some(Point::Float(Sample { at: Millis(at), value })),
            (None, Some(histogram)) => Some(Point::Histogram(histogram.clone())),
            (None, None) => None,
        }
    }

    /// Returns how many samples of both kinds there are.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A float or a histogram at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    /// A float.
    Float(Sample),
    /// A native histogram.
    Histogram(HistogramSample),
}

impl Point {
    /// Returns the point's time.
    pub fn at(&self) -> Millis {
        match self {
            Point::Float(sample) => sample.at,
            Point::Histogram(sample) => sample.at,
        }
    }

    /// Whether the point ends its series.
    pub fn is_stale(&self) -> bool {
        match self {
            Point::Float(sample) => crate::model::is_stale(sample.value),
            Point::Histogram(sample) => crate::model::is_stale(sample.histogram.sum),
        }
    }
}

/// Exemplars of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarSeries {
    /// The series they belong to.
    pub labels: Labels,
    /// The exemplars, oldest first.
    pub exemplars: Vec<Exemplar>,
}

/// The newest samples of many series, and which labels they share: what [`Querier::newest_by`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewestBy {
    /// The label sets, reduced to the labels that were asked for, each once.
    pub groups: Vec<Labels>,
    /// The newest float of each series, stale markers included, and the index of its group; in the order of the series' labels.
    pub values: Vec<(u32, f64)>,
}

impl NewestBy {
    /// Asks each series in turn: what a store answers that knows no shorter way. `None` when one has a histogram.
    ///
    /// # Errors
    /// As [`Series::latest`].
    pub fn of(
        series: &[Box<dyn Series>],
        range: TimeRange,
        names: &[String],
    ) -> Result<Option<NewestBy>, StorageError> {
        let mut found = NewestBy::default();
        for series in series {
            let value = match series.latest(range)? {
                None => continue,
                Some(Point::Float(sample)) => sample.value,
                Some(Point::Histogram(_)) => return Ok(None),
            };
            let labels = series.labels().filtered(|name| names.iter().any(|kept| kept == name));
            let known = found.groups.iter().position(|group| *group == labels);
            let group = known.unwrap_or_else(|| {
                found.groups.push(labels);
                found.groups.len() - 1
            });
            found.values.push((group as u32, value));
        }
        Ok(Some(found))
    }
}

/// Shows samples. Methods block (on a file at worst) and are safe to call from many threads.
pub trait Querier: Send + Sync {
    /// Returns the series that match, sorted by labels, undecoded.
    ///
    /// # Errors
    /// [`StorageError`]: a query never gets less than it asked for without a warning.
    fn select(&self, select: &Select) -> Result<Selection, StorageError>;

    /// Returns of each series that matches only the newest float within the range, and its labels reduced to `names` (sorted):
    /// what `sum by (names) (…)` asks at one moment. `None` when this store must look closer (a histogram, several parts to
    /// merge): then [`Querier::select`] tells.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn newest_by(&self, _select: &Select, _names: &[String]) -> Result<Option<NewestBy>, StorageError> {
        Ok(None)
    }

    /// Returns the label sets with a sample in `range` that match any of `sets` (all series when there is none), sorted.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError>;

    /// Returns the label names of those series, sorted.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError>;

    /// Returns the values that `name` has in those series, sorted.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError>;

    /// Returns what senders said about metrics, sorted by metric.
    fn metadata(&self) -> Vec<MetricMetadata>;

    /// Returns exemplars of the series that match any of `sets`.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn exemplars(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError>;

    /// Returns the time up to which all data is in: rules on closed data evaluate no later.
    fn complete_until(&self) -> Millis;

    /// Returns the time up to which all data of the series that match is in. Where some series lag behind by nature (windows of
    /// events that are still open), only these say less than others.
    fn complete_for(&self, _matchers: &[Matcher]) -> Millis {
        self.complete_until()
    }

    /// Returns a number that changes when samples in `range` do: the key of a result cache.
    fn version(&self, range: TimeRange) -> u64;
}

/// Why a store cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// Stored bytes fail their checksum.
    #[error("corrupt data in {file} at byte {offset}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// The operating system's words.
        reason: String,
    },
    /// A limit of the query was reached; the text names it.
    #[error("{0}")]
    Limit(String),
}

/// Wakes whoever registered when series that match begin to move.
///
/// The store flags matching series when they are created and, after their samples are durable, calls `wake` with the
/// registered tokens: coalesced, never blocking ingest.
pub trait Interest: Send + Sync {
    /// Replaces all registrations: each token is woken when a series matching one of its selectors gets a sample.
    fn register(&self, selectors: Vec<(u64, Vec<Matcher>)>, wake: Arc<Wake>);
}

/// Called with the tokens of the registrations whose series moved.
pub type Wake = dyn Fn(&[u64]) + Send + Sync;
