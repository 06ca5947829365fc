//! Who fetches the bytes of blobs from the store itself: asked by `http/blobs` at each blob GET.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

/// Redirects are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirects {
    /// Networks of clients that reach the store; empty means all.
    pub networks: Vec<IpNet>,
    /// How long a URL is good for.
    pub lifetime: Duration,
}

impl Redirects {
    /// Whether a client is sent to the store.
    pub fn concern(&self, client: IpAddr) -> bool {
        // A socket for both families shows IPv4 clients as part of IPv6.
        let client = client.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", "192.0.2.1", true)]
    #[case("10.0.0.0/8", "10.1.2.3", true)]
    #[case("10.0.0.0/8", "::ffff:10.1.2.3", true)]
    #[case("10.0.0.0/8", "11.1.2.3", false)]
    #[case("10.0.0.0/8 2001:db8::/32", "2001:db8::1", true)]
    #[case("10.0.0.0/8 2001:db8::/32", "2001:db9::1", false)]
    #[case("0.0.0.0/0", "::1", false)]
    fn clients(#[case] networks: &str, #[case] client: IpAddr, #[case] concerned: bool) {
        let networks = networks.split_whitespace().map(|network| network.parse().unwrap()).collect();
        assert_eq!(Redirects { networks, lifetime: Duration::from_mins(1) }.concern(client), concerned);
    }
}
