//! The seams: everything the server asks of the world outside, each as a trait with a real and a simulated twin.
//!
//! Nothing else in the crate reads a clock, opens a file, connects to a host or rolls a die. Both twins are always
//! compiled; constructors take `Arc<dyn ..>`.

mod clock;
pub mod disk;
pub mod files;
pub mod http_client;
pub mod log;
pub mod mailer;
mod object;
pub(crate) mod outgoing;
pub mod process;
mod random;
mod shutdown;
mod state;
pub(crate) mod tls;

use std::future::Future;
use std::pin::Pin;

pub use clock::{Clock, Mono, SimClock, SystemClock};
pub use object::{DirStore, MemStore, ObjectError, ObjectInfo, ObjectStore};
pub use random::{OsRandom, Random, SeededRandom};
pub use shutdown::{Shutdown, ShutdownHandle};
pub use state::{LogState, MemState, Revision, StateError, StateStore, Stored};

/// A boxed future, so that async methods fit into trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
