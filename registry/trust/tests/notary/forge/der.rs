//! Writing DER.

pub(crate) fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = match content.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            [&[0x80 | u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
        }
    };
    [&[tag][..], &length, &content].concat()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(0x31, parts)
}

pub(crate) fn explicit(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(0xa0 | number, parts)
}

/// Below 128.
pub(crate) fn integer(value: u8) -> Vec<u8> {
    element(0x02, &[&[value]])
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(0x04, &[bytes])
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[&[if value { 0xff } else { 0 }]])
}

pub(crate) fn time(text: &str) -> Vec<u8> {
    element(0x18, &[text.as_bytes()])
}

pub(crate) fn oid(text: &str) -> Vec<u8> {
    let numbers: Vec<u64> = text.split('.').map(|number| number.parse().unwrap()).collect();
    let mut content = Vec::new();
    for number in std::iter::once(numbers[0] * 40 + numbers[1]).chain(numbers[2..].iter().copied()) {
        let mut groups = vec![u8::try_from(number & 0x7f).unwrap()];
        let mut rest = number >> 7;
        while rest > 0 {
            groups.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
            rest >>= 7;
        }
        content.extend(groups.into_iter().rev());
    }
    element(0x06, &[&content])
}

/// An `AlgorithmIdentifier` without parameters.
pub(crate) fn algorithm(text: &str) -> Vec<u8> {
    sequence(&[&oid(text)])
}

/// A `Name` with one attribute in each part.
pub(crate) fn name(parts: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| set(&[&attribute(part)])).collect();
    sequence(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

pub(crate) fn attribute((kind, value): &(&str, &str)) -> Vec<u8> {
    sequence(&[&oid(kind), &element(0x0c, &[value.as_bytes()])])
}
