//! What the test binaries share beyond the library: an HTTP client inside the cluster's network, and a load of
//! pushes and pulls that counts each request. Not every binary uses all of it.
#![allow(dead_code)]

pub(crate) mod http;
pub(crate) mod load;
