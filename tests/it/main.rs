//! Whole paths through the real binary: one test binary, real processes, loopback only.
//!
//! Each test starts servers of its own on free ports and in a folder of its own, and polls with a deadline.

mod bounded;
mod browser;
mod clicks;
mod client;
mod closed;
mod grafana;
mod main_job;
mod pages;
mod process;
mod smtp;
mod webhook;
