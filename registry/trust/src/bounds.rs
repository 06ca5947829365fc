//! How much evidence is looked at. The fetcher stops at these bounds, and they hold again when facts are established,
//! so that evidence from a store or a test is bounded as well.

/// Limits; more is an error that names the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Referrers of one image, and signed statements in all.
    pub referrers: usize,
    /// Bytes of one layer.
    pub layer: usize,
    /// Bytes of all evidence for one image together.
    pub total: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { referrers: 100, layer: 10 * 1024 * 1024, total: 32 * 1024 * 1024 }
    }
}

/// Bytes of one signed payload (a DSSE payload, or the payload of a classic signature).
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024;

/// Levels of JSON.
pub(crate) const MAX_DEPTH: usize = 64;

/// Bytes of one compiled regular expression.
pub(crate) const MAX_REGEX: usize = 256 * 1024;

/// Keeps messages short when the input is hostile.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

/// For headers and terminals, which take no control characters, whatever a registry sent; long texts are cut.
pub fn printable(text: &str) -> String {
    const MAX: usize = 2048;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() > MAX { clean.take(MAX).chain(['…']).collect() } else { clean.collect() }
}

/// There is more evidence than we look at; no verdict can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image has more {what} than the limit of {bound}")]
pub struct BoundsExceeded {
    /// What there is too much of.
    pub what: &'static str,
    /// The limit.
    pub bound: usize,
}
