//! JSON for signed content: one key means one thing. Two parsers that read a document with a repeated key differently
//! would let a signature stand for something that nobody signed, so such documents are refused.

use std::{collections::BTreeSet, fmt};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::bounds::MAX_DEPTH;

/// With such a key, `serde_json` takes a text for the JSON in it: a second document that nobody looked through.
const RESERVED: &str = "$serde_json::private::";

/// Reads a document of at most `bound` bytes without repeated keys and no deeper than [`MAX_DEPTH`].
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], bound: usize) -> Result<T, String> {
    if bytes.len() > bound {
        return Err(format!("it has {} bytes, more than the limit of {bound}", bytes.len()));
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    Strict(MAX_DEPTH).deserialize(&mut document).map_err(|e| e.to_string())?;
    document.end().map_err(|e| e.to_string())?;
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// Walks a value that may have so many levels more.
#[derive(Clone, Copy)]
struct Strict(usize);

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0
            .checked_sub(1)
            .map(Self)
            .ok_or_else(|| E::custom(format!("it has more than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.starts_with(RESERVED) {
                return Err(A::Error::custom(format!("the key {key:?} is not allowed")));
            }
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("the key {key:?} appears twice")));
            }
            keys.insert(key);
            map.next_value_seed(deeper)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"a":1,"b":[{"a":1},{"a":2}],"c":null,"d":1.5,"e":-1,"f":"x","g":true}"#, "")]
    #[case(r#"{"a":1,"a":1}"#, "appears twice")]
    #[case(r#"{"a":{"b":1,"\u0062":2}}"#, "appears twice")]
    #[case(r#"[{"a":[{"x":1,"x":2}]}]"#, "appears twice")]
    // Without the guard these are `{"a":2}` and `1`.
    #[case(r#"{"$serde_json::private::RawValue":"{\"a\":1,\"a\":2}"}"#, "not allowed")]
    #[case(r#"[{"\u0024serde_json::private::Number":"1"}]"#, "not allowed")]
    #[case(r#"{"a":1} {}"#, "trailing")]
    #[case("", "EOF")]
    #[case(r#"{"a":"#, "EOF")]
    fn strictness(#[case] text: &str, #[case] says: &str) {
        match read::<serde_json::Value>(text.as_bytes(), 1000) {
            Ok(_) => assert_eq!(says, ""),
            Err(error) => assert!(!says.is_empty() && error.contains(says), "{error}"),
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read::<serde_json::Value>(nested(MAX_DEPTH).as_bytes(), 1000).is_ok());
        let error = read::<serde_json::Value>(nested(MAX_DEPTH + 1).as_bytes(), 1000).unwrap_err();
        assert!(error.contains("64 levels"), "{error}");
        let error = read::<serde_json::Value>(b"[1,2]", 4).unwrap_err();
        assert!(error.contains("limit of 4"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read::<serde_json::Value>(&bytes, 1000);
        }
    }
}
