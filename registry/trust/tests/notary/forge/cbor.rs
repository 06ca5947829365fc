//! Writing CBOR.

use serde_json::Value;

pub(crate) fn head(major: u8, argument: u64) -> Vec<u8> {
    let major = major << 5;
    match argument {
        0..=23 => vec![major | u8::try_from(argument).unwrap()],
        24..=0xff => vec![major | 0x18, u8::try_from(argument).unwrap()],
        0x100..=0xffff => [&[major | 0x19][..], &u16::try_from(argument).unwrap().to_be_bytes()].concat(),
        _ => [&[major | 0x1a][..], &u32::try_from(argument).unwrap().to_be_bytes()].concat(),
    }
}

pub(crate) fn int(value: i64) -> Vec<u8> {
    u64::try_from(value).map_or_else(|_| head(1, value.unsigned_abs() - 1), |value| head(0, value))
}

pub(crate) fn bytes(value: &[u8]) -> Vec<u8> {
    [&head(2, value.len() as u64)[..], value].concat()
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    [&head(3, value.len() as u64)[..], value.as_bytes()].concat()
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

pub(crate) fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = entries.iter().map(|(key, value)| [&key[..], value].concat()).collect();
    [head(5, entries.len() as u64), entries.concat()].concat()
}

pub(crate) fn tag(number: u64, item: &[u8]) -> Vec<u8> {
    [&head(6, number)[..], item].concat()
}

/// Text, integers and arrays of them.
pub(crate) fn from_json(value: &Value) -> Vec<u8> {
    match value {
        Value::String(value) => text(value),
        Value::Number(value) => int(value.as_i64().unwrap()),
        Value::Array(items) => array(&items.iter().map(from_json).collect::<Vec<_>>()),
        other => panic!("{other} is not needed"),
    }
}
