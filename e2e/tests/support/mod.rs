//! What the test binaries share beyond the library: HTTP clients inside the cluster's network, and loads that count
//! each request: of pushes and pulls, and of reviews. Not every binary uses all of it.
#![allow(dead_code)]

pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod reviews;
