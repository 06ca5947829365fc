//! CBOR (RFC 8949), as far as COSE messages need it: definite lengths, maps with text or integer keys that appear once,
//! bounded in depth and in the number of items, because the bytes come from strangers.

use std::collections::BTreeMap;

/// Levels of nesting; a COSE message has four.
const MAX_DEPTH: usize = 16;
/// Items in all; a COSE message has some dozens.
const MAX_ITEMS: usize = 1000;

/// The key of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label<'a> {
    Int(i64),
    Text(&'a str),
}

/// One data item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Item<'a>>),
    Map(BTreeMap<Label<'a>, Item<'a>>),
    Tag(u64, Box<Item<'a>>),
    /// A float or a simple value: nothing that is looked at.
    Other,
}

/// Reads one item that takes up all bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Item<'_>, String> {
    let mut reader = Reader { rest: bytes, items: MAX_ITEMS };
    let item = reader.item(MAX_DEPTH)?;
    if reader.rest.is_empty() { Ok(item) } else { Err("bytes follow its end".to_owned()) }
}

struct Reader<'a> {
    rest: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, String> {
        let depth = depth.checked_sub(1).ok_or_else(|| format!("it has more than {MAX_DEPTH} levels"))?;
        self.items =
            self.items.checked_sub(1).ok_or_else(|| format!("it has more than {MAX_ITEMS} items"))?;
        let (major, argument) = self.head()?;
        Ok(match major {
            0 => Item::Int(int(argument)?),
            1 => Item::Int(-1 - int(argument)?),
            2 => Item::Bytes(self.take(argument)?),
            3 => {
                let text = std::str::from_utf8(self.take(argument)?);
                Item::Text(text.map_err(|_| "a text is not UTF-8".to_owned())?)
            }
            4 => Item::Array((0..argument).map(|_| self.item(depth)).collect::<Result<_, _>>()?),
            5 => {
                let mut map = BTreeMap::new();
                for _ in 0..argument {
                    let label = match self.item(depth)? {
                        Item::Int(label) => Label::Int(label),
                        Item::Text(label) => Label::Text(label),
                        _ => return Err("a key is neither text nor an integer".to_owned()),
                    };
                    if map.insert(label, self.item(depth)?).is_some() {
                        return Err(format!("the key {label:?} appears twice"));
                    }
                }
                Item::Map(map)
            }
            6 => Item::Tag(argument, Box::new(self.item(depth)?)),
            _ => Item::Other,
        })
    }

    /// The major type and its argument (RFC 8949, 3).
    fn head(&mut self) -> Result<(u8, u64), String> {
        let first = self.take(1)?.iter().fold(0, |_, byte| *byte);
        let argument = match first & 0x1f {
            small @ 0..=23 => u64::from(small),
            size @ 24..=27 => {
                let bytes = self.take(1 << (size - 24))?;
                bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
            _ => return Err("an item has no definite length".to_owned()),
        };
        Ok((first >> 5, argument))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (taken, rest) = split.ok_or_else(|| "it ends too early".to_owned())?;
        self.rest = rest;
        Ok(taken)
    }
}

fn int(argument: u64) -> Result<i64, String> {
    i64::try_from(argument).map_err(|_| "an integer is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// Examples of RFC 8949, appendix A, and what must not be read.
    #[rstest]
    #[case(&[0x00], Ok(Item::Int(0)))]
    #[case(&[0x17], Ok(Item::Int(23)))]
    #[case(&[0x18, 0x64], Ok(Item::Int(100)))]
    #[case(&[0x19, 0x03, 0xe8], Ok(Item::Int(1000)))]
    #[case(&[0x1b, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0], Ok(Item::Int(1_000_000_000_000)))]
    #[case(&[0x38, 0x63], Ok(Item::Int(-100)))]
    #[case(&[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Ok(Item::Int(i64::MIN)))]
    #[case(&[0x44, 1, 2, 3, 4], Ok(Item::Bytes(&[1, 2, 3, 4])))]
    #[case(&[0x62, 0xc3, 0xbc, 0x21][..3], Ok(Item::Text("ü")))]
    #[case(&[0x82, 0x01, 0x20], Ok(Item::Array(vec![Item::Int(1), Item::Int(-1)])))]
    #[case(&[0xa1, 0x61, 0x61, 0x01], Ok(Item::Map([(Label::Text("a"), Item::Int(1))].into())))]
    #[case(&[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0], Ok(Item::Tag(1, Box::new(Item::Int(1_363_896_240)))))]
    #[case(&[0xf9, 0x3c, 0x00], Ok(Item::Other))]
    #[case(&[0xf5], Ok(Item::Other))]
    #[case(&[], Err("ends too early"))]
    #[case(&[0x18], Err("ends too early"))]
    #[case(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err("ends too early"))]
    #[case(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err("ends too early"))]
    #[case(&[0x00, 0x00], Err("bytes follow"))]
    #[case(&[0x5f, 0x41, 0x00, 0xff], Err("no definite length"))]
    #[case(&[0x1c], Err("no definite length"))]
    #[case(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err("too large"))]
    #[case(&[0x61, 0xff], Err("not UTF-8"))]
    #[case(&[0xa2, 0x01, 0x01, 0x18, 0x01, 0x02], Err("appears twice"))]
    #[case(&[0xa1, 0x40, 0x01], Err("neither text nor an integer"))]
    fn items(#[case] bytes: &[u8], #[case] expected: Result<Item<'_>, &str>) {
        match (read(bytes), expected) {
            (Ok(item), Ok(expected)) => assert_eq!(item, expected),
            (Err(error), Err(says)) => assert!(error.contains(says), "{error}"),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn depth_and_number_of_items_are_bounded() {
        let nested = |levels: usize| [vec![0x81; levels - 1], vec![0x00]].concat();
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert!(read(&nested(MAX_DEPTH + 1)).unwrap_err().contains("16 levels"));
        let many = |items: u16| [&[0x99][..], &items.to_be_bytes(), &vec![0; usize::from(items)]].concat();
        assert!(read(&many(999)).is_ok());
        assert!(read(&many(1000)).unwrap_err().contains("1000 items"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
