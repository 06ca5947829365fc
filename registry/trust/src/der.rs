//! DER, as far as timestamp tokens and the frame of certificates need it: a cursor over elements whose tags fit one byte,
//! and elements written around what is there.

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With tag and length.
    pub(crate) whole: &'a [u8],
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// `[number]`, constructed.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// An element around this content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let head = match (content.len(), u8::try_from(length.len())) {
        (short @ 0..=0x7f, _) => vec![tag, u8::try_from(short).unwrap_or_default()],
        (_, Ok(count)) => [&[tag, 0x80 | count], length].concat(),
        // A length has at most eight bytes.
        (_, Err(_)) => Vec::new(),
    };
    [&head, content].concat()
}

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, of any kind.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match length {
            short @ 0..=0x7f => (usize::from(short), rest),
            // The shortest form is the only one; four bytes are more than any token has.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                let shortest = value >= 0x80 && bytes.first() != Some(&0);
                (usize::try_from(value).ok().filter(|_| shortest)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { tag, content, whole })
    }

    /// The next element, if it is of this kind; else nothing is read.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Element<'a> {
    pub(crate) fn inside(self) -> Der<'a> {
        Der(self.content)
    }

    /// The elements of a SEQUENCE OF or SET OF.
    pub(crate) fn all(self) -> Option<Vec<Self>> {
        let mut inside = self.inside();
        let mut all = Vec::new();
        while !inside.is_empty() {
            all.push(inside.next()?);
        }
        Some(all)
    }

    /// The one element inside.
    pub(crate) fn only(self, tag: u8) -> Option<Self> {
        let mut inside = self.inside();
        let element = inside.take(tag)?;
        inside.end()?;
        Some(element)
    }

    /// A non-negative integer that is small.
    pub(crate) fn number(self) -> Option<u32> {
        match self.content {
            [first, ..] if first & 0x80 != 0 => None,
            [] => None,
            bytes if bytes.len() > 5 => None,
            bytes => {
                let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                u32::try_from(value).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// DER has one spelling for each length (X.690, 10.1).
    #[rstest]
    #[case(&[0x04, 0x00], Some(0))]
    #[case(&[0x04, 0x01, 0xff], Some(1))]
    #[case(&[0x04, 0x02, 0xff], None)]
    #[case(&[0x04, 0x80, 0x00, 0x00], None)]
    #[case(&[0x04, 0x81, 0x01, 0xff], None)]
    #[case(&[&[0x04, 0x81, 0x80][..], &[0; 0x80]].concat(), Some(0x80))]
    #[case(&[&[0x04, 0x82, 0x00, 0x80][..], &[0; 0x80]].concat(), None)]
    #[case(&[&[0x04, 0x82, 0x01, 0x00][..], &[0; 0x100]].concat(), Some(0x100))]
    #[case(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], None)]
    #[case(&[0x04, 0x85, 0, 0, 0, 0, 0], None)]
    #[case(&[0x1f, 0x01, 0x00], None)]
    #[case(&[0x04], None)]
    #[case(&[], None)]
    fn lengths(#[case] bytes: &[u8], #[case] length: Option<usize>) {
        assert_eq!(Der::new(bytes).next().map(|element| element.content.len()), length);
    }

    #[rstest]
    #[case(&[0x00], Some(0))]
    #[case(&[0x01, 0xf4], Some(500))]
    #[case(&[0x00, 0xff, 0xff, 0xff, 0xff], Some(u32::MAX))]
    #[case(&[0x01, 0x00, 0x00, 0x00, 0x00], None)]
    #[case(&[0x80], None)]
    #[case(&[], None)]
    fn numbers(#[case] content: &[u8], #[case] number: Option<u32>) {
        assert_eq!(Element { tag: INTEGER, content, whole: content }.number(), number);
    }

    #[rstest]
    fn what_is_written_is_read(#[values(0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000)] length: usize) {
        let content = vec![7; length];
        let written = element(SEQUENCE, &content);
        let read = Der::new(&written).take(SEQUENCE).unwrap();
        assert_eq!((read.content, read.whole), (&content[..], &written[..]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut der = Der::new(&bytes);
            while let Some(element) = der.next() {
                let _ = (element.all(), element.only(SEQUENCE), element.number());
            }
        }
    }
}
