//! A client of any OCI registry, for replication, admission, caches and the command line.
//! It is our own and not `oci-client` 0.18, because that one reads every body without a bound, takes any registry error
//! at the referrers tag for "no referrers" (an unanswered question must not look like a missing signature), and can
//! neither pin a host to an address nor keep credentials and redirects to one host.
//!
//! One [`Client`] is one registry: [`Endpoint`] says where it is and how it is trusted, [`Credentials`] who we are
//! there, [`ClientError`] what went wrong. [`evidence`] collects what `berth-trust` judges.

pub mod blob;
pub mod evidence;
pub mod examine;
pub mod list;
pub mod manifest;

mod auth;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod hash;
mod pack;
mod public;

pub use blob::{BlobStream, Copied};
pub use client::Client;
pub use credentials::{Credentials, TokenSource};
pub use endpoint::{Endpoint, Reach, UPLOAD_SILENCE};
pub use error::ClientError;
pub use manifest::RawManifest;
