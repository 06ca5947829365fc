//! What the integration tests share: an HTTP client that explains its failures (`http`), generated
//! content (`content`), and real server processes to talk to (`server`, `s3`, `distribution`).
//! Every test binary compiles this folder for itself and uses the part that it needs.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod authority;
pub(crate) mod content;
pub(crate) mod distribution;
pub(crate) mod faulty;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod repository;
pub(crate) mod s3;
pub(crate) mod server;
