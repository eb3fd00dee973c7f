//! What a run found wrong.

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise, in a few words.
    pub rule: &'static str,
    /// What was seen.
    pub seen: String,
}

impl Finding {
    /// A broken promise.
    #[must_use]
    pub fn new(rule: &'static str, seen: impl Into<String>) -> Self {
        Self { rule, seen: seen.into() }
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.rule, self.seen)
    }
}

impl core::error::Error for Finding {}

/// What a check says.
pub type Checked<T = ()> = Result<T, Finding>;
