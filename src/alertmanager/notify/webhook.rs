//! Alertmanager's web hook, version 4.

use super::super::config::{SecretSource, WebhookConfig};
use super::data::Data;
use super::http::{Failure, Outgoing, Sender, signature};
use super::templates::Renderer;

/// The header that carries a message's id: the same for every try of the same message.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The header that carries the signature.
const SIGNATURE: &str = "X-Campanile-Signature";

/// Builds the request.
///
/// # Errors
/// [`Failure`], when a template or a secret fails.
pub(crate) fn request(
    config: &WebhookConfig,
    data: &Data,
    renderer: &Renderer<'_>,
    sender: &Sender,
    id: &str,
) -> Result<Outgoing, Failure> {
    let url = match &config.url {
        source @ SecretSource::File(_) => sender.secret(source)?,
        SecretSource::Inline(secret) => renderer.text(secret.expose()).map_err(Failure::Permanent)?,
    };
    let body = match &config.payload {
        Some(payload) => renderer.tree(payload).map_err(Failure::Permanent)?,
        None => data.webhook(config.max_alerts),
    };
    let outgoing = Outgoing::json(url, &body).header(IDEMPOTENCY_KEY, id);
    if config.hmac.is_empty() {
        return Ok(outgoing);
    }
    let keys: Vec<String> = config
        .hmac
        .iter()
        .map(|key| sender.secret(key))
        .collect::<Result<_, _>>()?;
    let value = signature(&keys, &outgoing.body, data.now);
    Ok(outgoing.header(SIGNATURE, value))
}
