//! A forger's workshop: keys, certificates, envelopes and timestamps, well made unless told otherwise, so that a test
//! can break one rule and nothing else.

pub(crate) mod cbor;
pub(crate) mod der;
pub(crate) mod envelope;
pub(crate) mod party;
pub(crate) mod token;

pub(crate) use envelope::{Draft, Form};
pub(crate) use party::{Party, Profile, basic_constraints, extended_key_usage, key_usage, rsa_key};
pub(crate) use token::Token;
