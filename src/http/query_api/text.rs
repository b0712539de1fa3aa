//! What concerns only a query's text: its layout, its tree, the functions it may call.

use axum::response::Response;
use serde_json::{Value, json};

use super::query::parse_query as parsed;
use crate::http::params::Params;
use crate::http::{ApiError, Call, view};
use crate::query::functions::FUNCTIONS;
use crate::query::print::{format, to_json};

pub(super) async fn format_query(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let expr = parsed(&params)?;
    Ok(view::success(&Value::String(format(&expr)), &[]))
}

pub(super) async fn parse_query(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let expr = parsed(&params)?;
    Ok(view::success(&to_json(&expr), &[]))
}

/// The function table, for editors and the manual.
pub(super) async fn functions(_: Call) -> Result<Response, ApiError> {
    let rows = FUNCTIONS.iter().map(|function| {
        let types: Vec<&str> = function.args.iter().map(|ty| ty.as_str()).collect();
        json!({
            "name": function.name,
            "args": types,
            "argsMin": function.args_min(),
            "argsMax": function.args_max(),
            "returns": function.returns.as_str(),
            "doc": function.doc,
            "example": function.example,
            "experimental": function.experimental,
        })
    });
    Ok(view::success(&rows.collect(), &[]))
}
