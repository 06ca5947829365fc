//! The log: one JSON object a line on standard output, filtered by `RUST_LOG`.

use tracing_subscriber::EnvFilter;

/// Sends the log of this process to standard output.
pub fn to_stdout() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        // Each line names its object itself; the spans of the controller runtime would say it twice more.
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
}
