//! A running hash that can be put aside and gone on with, on any replica.

use berth_registry_core::{Algorithm, Digest, digest::hex};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A hash over the bytes of an upload so far.
#[derive(Clone, Debug)]
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Sha256(hash) => Digest::from_raw(Algorithm::Sha256, &hash.clone().finalize()),
            Self::Sha512(hash) => Digest::from_raw(Algorithm::Sha512, &hash.clone().finalize()),
        }
    }

    /// The state in hex.
    pub(super) fn save(&self) -> String {
        match self {
            Self::Sha256(hash) => hex(&hash.serialize()),
            Self::Sha512(hash) => hex(&hash.serialize()),
        }
    }

    /// Goes on from a saved state; `None` if it is none.
    pub(super) fn load(algorithm: Algorithm, state: &str) -> Option<Self> {
        fn state_of<T: SerializableState>(bytes: &[u8]) -> Option<T> {
            T::deserialize(&SerializedState::<T>::try_from(bytes).ok()?).ok()
        }
        let bytes = unhex(state)?;
        match algorithm {
            Algorithm::Sha256 => state_of(&bytes).map(Self::Sha256),
            Algorithm::Sha512 => state_of(&bytes).map(Self::Sha512),
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_saved_hash_goes_on_where_it_was(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            at in any::<proptest::sample::Index>(),
            wide in any::<bool>(),
        ) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
            let mut hasher = Hasher::new(algorithm);
            hasher.update(head);
            let mut resumed = Hasher::load(algorithm, &hasher.save()).unwrap();
            resumed.update(tail);
            prop_assert_eq!(resumed.digest().unwrap(), algorithm.digest(&bytes));
        }
    }

    #[test]
    fn damaged_states_are_refused() {
        assert!(Hasher::load(Algorithm::Sha256, "zz").is_none());
        assert!(Hasher::load(Algorithm::Sha256, "00").is_none());
        assert!(Hasher::load(Algorithm::Sha256, &"f".repeat(210)).is_none());
    }
}
