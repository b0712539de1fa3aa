//! A mistake that shows only when the whole file has been read, and the path of the value that it is about.

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Flaw {
    /// The path of the value: `route.routes[1].receiver`; empty when it is about the whole file.
    pub(super) path: String,
    /// What is wrong.
    pub(super) reason: String,
}

impl Flaw {
    /// A mistake in the value at `path`.
    pub(super) fn at(path: impl Into<String>, reason: impl Into<String>) -> Flaw {
        Flaw {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
