//! From a message to what goes over the wire: templates, e-mail, web hooks, presets.

pub(crate) mod data;
pub(crate) mod email;
mod functions;
pub(crate) mod presets;
pub(crate) mod templates;
pub(crate) mod webhook;

pub(crate) use crate::io::outgoing::sender as http;
