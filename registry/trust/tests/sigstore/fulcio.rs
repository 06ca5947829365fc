//! Certificates for one moment, for keys of every kind, seen by certificate logs with keys of every kind.

use berth_trust::sigstore::TrustRoot;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    forge::{Authority, Kind, Log, NOW, Secret, trust_root},
    logs::{Logged, Signed, verifier},
    material::outcome,
};

/// An authority, a log, a certificate log, and another.
struct Instance {
    authority: Authority,
    log: Log,
    certificate_logs: [Log; 2],
}

impl Instance {
    fn new(certificate_log: Kind) -> Self {
        let log = |kind| Log::new(Secret::new(kind));
        let certificate_logs = [log(certificate_log), log(certificate_log)];
        Self { authority: Authority::new(), log: log(Kind::P256), certificate_logs }
    }

    fn root(&self) -> TrustRoot {
        let mut document = trust_root(&[&self.log]);
        document["certificateAuthorities"] = json!([self.authority.trusted()]);
        document["ctlogs"] = json!([self.certificate_logs[0].trusted()]);
        TrustRoot::parse(document.to_string().as_bytes()).unwrap()
    }

    /// A signature by the holder of a certificate that was seen so.
    fn keyless(&self, logged: Logged, by: Kind, hash: &str, seen: &[(&Log, i64, bool)]) -> &'static str {
        let secret = Secret::new(by);
        let certificate = self.authority.issue(&secret, seen);
        let signed = Signed::new(logged, &secret, Some(&certificate));
        let presented = signed.presented(logged, &self.log, &signed.entry(logged, hash));
        outcome(presented.keyless(&self.root()))
    }
}

#[rstest]
fn certificates_for_every_kind_of_key(
    #[values(Logged::Dsse, Logged::Tiled, Logged::Hashed, Logged::IntotoV1, Logged::IntotoV2)] logged: Logged,
    #[values(
        (Kind::P256, "sha256"), (Kind::P384, "sha384"), (Kind::Ed25519, "sha256"), (Kind::Ed25519ph, "sha512"),
        (Kind::Rsa, "sha256")
    )]
    (by, hash): (Kind, &str),
) {
    let instance = Instance::new(Kind::P256);
    assert_eq!(instance.keyless(logged, by, hash, &[(&instance.certificate_logs[0], NOW, true)]), "counts");
    assert_eq!(instance.keyless(logged, by, hash, &[]), "NotInCertificateLog");
}

/// One good timestamp suffices, whatever stands beside it: all of them are signed by the authority.
#[rstest]
fn certificate_logs_with_every_kind_of_key(
    #[values(Kind::P256, Kind::P384, Kind::P521WithSha256, Kind::Ed25519, Kind::Rsa)] by: Kind,
) {
    let instance = Instance::new(by);
    let [ours, other] = &instance.certificate_logs;
    let keyless = |seen: &[(&Log, i64, bool)]| instance.keyless(Logged::Dsse, Kind::P256, "sha256", seen);
    assert_eq!(keyless(&[(ours, NOW, true)]), "counts");
    assert_eq!(keyless(&[(other, NOW, true)]), "NotInCertificateLog");
    // About a certificate by another authority.
    assert_eq!(keyless(&[(ours, NOW, false)]), "NotInCertificateLog");
    // Before the log was believed.
    assert_eq!(keyless(&[(ours, 1_700_000_000, true)]), "NotInCertificateLog");
    if by != Kind::Rsa {
        assert_eq!(keyless(&[(other, NOW, true), (ours, NOW, false), (ours, NOW, true)]), "counts");
    }
}

/// The log holds the signature with the very certificate, not only with its key.
#[rstest]
fn an_entry_is_bound_to_the_certificate(
    #[values(Logged::Dsse, Logged::Tiled, Logged::Hashed, Logged::IntotoV1, Logged::IntotoV2)] logged: Logged,
    #[values(true, false)] another: bool,
) {
    let instance = Instance::new(Kind::P256);
    let secret = Secret::new(Kind::P256);
    let seen = [(&instance.certificate_logs[0], NOW, true)];
    let certificate = instance.authority.issue(&secret, &seen);
    // Issued anew, for the same key and the same name; or no certificate at all.
    let again = instance.authority.issue(&secret, &seen);
    assert_ne!(certificate, again);
    let signed = Signed::new(logged, &secret, Some(&certificate));
    let keyless =
        |entry: &Value| outcome(signed.presented(logged, &instance.log, entry).keyless(&instance.root()));
    assert_eq!(keyless(&signed.entry(logged, "sha256")), "counts");
    let other = signed.clone().with(verifier(&secret, another.then_some(&again)));
    assert_eq!(keyless(&other.entry(logged, "sha256")), "OtherLogEntry");
}
