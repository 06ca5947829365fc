//! Which addresses belong to the public network. Whoever may name a host that we call must not reach with it what only we
//! can reach: our own machine, the cluster, the cloud's metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names, and knows of no address that is not public.
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<_> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public network (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast();
    let shared = matches!(
        address.octets(),
        [0 | 240..=255, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..]
    );
    !special && !shared
}

/// Only what is given out for the global network, and none of the forms that hide an address of version 4.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => address.to_ipv4_mapped().is_some_and(is_public_v4),
        // Teredo and its neighbours, documentation, 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("8.8.8.8", true)]
    #[case("140.82.121.34", true)]
    #[case("2606:4700::6810:84e5", true)]
    #[case("::ffff:8.8.8.8", true)]
    #[case("10.0.0.1", false)]
    #[case("172.16.0.1", false)]
    #[case("192.168.0.1", false)]
    #[case("127.0.0.1", false)]
    #[case("169.254.169.254", false)]
    #[case("100.100.100.200", false)]
    #[case("0.0.0.0", false)]
    #[case("255.255.255.255", false)]
    #[case("224.0.0.1", false)]
    #[case("198.18.0.1", false)]
    #[case("::", false)]
    #[case("::1", false)]
    #[case("::ffff:127.0.0.1", false)]
    #[case("::127.0.0.1", false)]
    #[case("64:ff9b::a9fe:a9fe", false)]
    #[case("2002:7f00:1::", false)]
    #[case("2001:0:1::1", false)]
    #[case("fe80::1", false)]
    #[case("fd00:ec2::254", false)]
    #[case("ff02::1", false)]
    fn addresses(#[case] address: &str, #[case] public: bool) {
        assert_eq!(is_public(address.parse().unwrap()), public);
    }
}
