//! All inbound I/O: one port, one route table, one place that knows status codes.
//!
//! Each file of handlers lists its routes; [`route::all`] joins them, and the router, the limits and the test of the
//! table read nothing else. Handlers reach the rest of the server through [`App`], which `server` fills.

mod app;
mod error;
mod route;
mod serve;

pub use app::App;
pub use error::ApiError;
pub use route::{Call, Route, Scope};
pub use serve::{HttpConfig, bind, serve};
