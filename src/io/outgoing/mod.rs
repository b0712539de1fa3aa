//! Requests that say who we are, as Prometheus's and Alertmanager's files write it: user and password, tokens, OAuth 2.0,
//! certificates, proxies, and secrets in files that are read anew for each use.

pub(crate) mod config;
pub(crate) mod scalar;
pub(crate) mod sender;
