//! What a query is asked with and what it answers.

use super::Fits;
use crate::model::{HistogramSample, Interval, Labels, Millis, Sample};
use crate::storage::{Point, StorageError};

/// How a query is evaluated, beyond its text.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// How far an instant selector looks back.
    pub lookback: Interval,
    /// The step of subqueries that name none.
    pub subquery_step: Interval,
    /// The most samples loaded.
    pub samples_max: u64,
    /// The most series selected.
    pub series_max: u64,
    /// The most memory in bytes for intermediate and final results.
    pub memory_bytes_max: u64,
    /// The longest time; counted by the caller's clock through [`QueryOptions::interrupt`].
    pub timeout: Interval,
    /// Asked regularly in every loop whether to end the query (client gone, deadline passed).
    pub interrupt: Interrupt,
    /// Whether [`QueryStats::samples_per_step`] is wanted.
    pub samples_per_step: bool,
    /// What detectors learned before. One cache serves one store.
    pub fits: Fits,
}

/// A question that every loop of an evaluation asks now and then: may I go on?
#[derive(Clone, Default)]
pub struct Interrupt(Option<std::sync::Arc<Question>>);

type Question = dyn Fn() -> Option<Interruption> + Send + Sync;

impl Interrupt {
    /// Asks `question`, which must be cheap: it is called every few thousand samples from many threads.
    pub fn new(question: impl Fn() -> Option<Interruption> + Send + Sync + 'static) -> Interrupt {
        Interrupt(Some(std::sync::Arc::new(question)))
    }

    /// Returns why to stop, if so.
    pub fn asked(&self) -> Option<Interruption> {
        self.0.as_ref().and_then(|question| question())
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupt({:?})", self.asked())
    }
}

/// Why a query was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The deadline passed.
    Timeout,
    /// Nobody waits for the answer any more.
    Cancelled,
}

impl Default for QueryOptions {
    fn default() -> QueryOptions {
        QueryOptions {
            lookback: Interval::mins(5),
            subquery_step: Interval::mins(1),
            samples_max: 50_000_000,
            series_max: 500_000,
            memory_bytes_max: 256 << 20,
            timeout: Interval::secs(30),
            interrupt: Interrupt::default(),
            samples_per_step: false,
            fits: Fits::default(),
        }
    }
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryOutput {
    /// The value.
    pub value: QueryValue,
    /// Prometheus's warnings, as the API shows them: `PromQL warning: … (1:7)`.
    pub warnings: Vec<String>,
    /// Prometheus's infos, as the API shows them.
    pub infos: Vec<String>,
    /// What it took.
    pub stats: QueryStats,
}

/// What a query took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Series selected.
    pub series: u64,
    /// Samples loaded over the whole evaluation (Prometheus's `totalQueryableSamples`).
    pub samples: u64,
    /// The most samples held at once.
    pub peak_samples: u64,
    /// Samples loaded at each step, when asked for.
    pub samples_per_step: Vec<(Millis, u64)>,
}

/// A query's value. Ranges give a matrix; instants any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// A number.
    Scalar(Sample),
    /// A text.
    String(Millis, String),
    /// One point for each series at one time.
    Vector(Vec<VectorSample>),
    /// Many points for each series, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// The element's labels.
    pub labels: Labels,
    /// Its point; a stale marker never gets here.
    pub point: Point,
}

/// One series of a matrix: at each time either a float or a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// The series' labels.
    pub labels: Labels,
    /// Its floats.
    pub floats: Vec<Sample>,
    /// Its histograms.
    pub histograms: Vec<HistogramSample>,
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no query (HTTP 400): Prometheus's wording, `1:5: parse error: …`.
    #[error("{message}")]
    Parse {
        /// Line, column and reason.
        message: String,
        /// A snippet with a caret and, where there is one, the nearest known name.
        hint: String,
    },
    /// The query cannot be evaluated on this data (HTTP 422).
    #[error("{0}")]
    Execution(String),
    /// A limit was reached (HTTP 422); the text names it.
    #[error("{0}")]
    Limit(String),
    /// The deadline passed (HTTP 503).
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// The client left.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
