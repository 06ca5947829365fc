//! Certificates and their authority are exchanged while reviews go on. Time is moved by the dates in the Secret
//! `berth-ca`: the key stays the same, so whoever trusts the authority goes on trusting it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Guarded, Outcome, Team, pod, story};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use reqwest::{Certificate, Client};
use serde_json::json;

use super::operators::Operators;
use super::support::reviews::Reviews;

const AUTHORITY: &str = "secret/berth-ca";
const WEBHOOK: &str = "secret/berth-webhook-tls";
const YEAR: Duration = Duration::from_hours(365 * 24);

/// R-OPS-3, R-OPR-6: the webhook's certificate is made anew, then the next authority is announced and takes over. No
/// review fails, and in the end the webhook is trusted by the new authority alone.
#[test]
fn new_certificates_and_a_new_authority_cost_no_review() -> Outcome {
    story(|story| {
        let team = story.team("rotated")?;
        let operators = Operators::of(story.cluster())?;
        let Guarded { registry, web, .. } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, rotated")?;
        team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)))?;
        let berth = &operators.0;
        let reviews = Reviews::start(&team, &web.tagged, &bare.tagged)?;

        let first = entry(berth, WEBHOOK, "tls.crt")?;
        berth.kubectl(&["delete", WEBHOOK])?;
        let second = berth.until("a new certificate", || another(berth, WEBHOOK, "tls.crt", &first))?;
        reviews.go_on(&team)?;

        redate(berth, YEAR * 8, YEAR * 2)?;
        let next = berth.until("the next authority", || entry(berth, AUTHORITY, "next.crt"))?;
        berth.until("the API server to be told", || {
            let told = told(berth)?;
            ensure!(told.contains(next.trim()), "it trusts\n{told}");
            Ok(())
        })?;
        ensure!(entry(berth, WEBHOOK, "tls.crt")? == second, "the next authority signed before its time");
        reviews.go_on(&team)?;

        redate(berth, YEAR * 10, Duration::ZERO)?;
        let third = berth
            .until("a certificate by the next authority", || another(berth, WEBHOOK, "tls.crt", &second))?;
        ensure!(
            entry(berth, AUTHORITY, "tls.crt")?.trim() == next.trim(),
            "another authority signed {third}"
        );
        served_by(&team, berth, &next)?;
        reviews.go_on(&team)?;
        reviews.end()
    })
}

/// A key of a Secret, as text.
fn entry(berth: &Team<'_>, secret: &str, key: &str) -> Result<String, Failure> {
    decoded(berth.get(secret)?["data"][key].as_str().unwrap_or_default(), key)
}

fn decoded(base64: &str, what: &str) -> Result<String, Failure> {
    ensure!(!base64.is_empty(), "there is no {what}");
    Ok(String::from_utf8(BASE64_STANDARD.decode(base64)?)?)
}

/// The same once it is not `old` any more.
fn another(berth: &Team<'_>, secret: &str, key: &str, old: &str) -> Result<String, Failure> {
    let now = entry(berth, secret, key)?;
    ensure!(now != old, "{secret} is as it was");
    Ok(now)
}

/// What the API server trusts the webhook by.
fn told(berth: &Team<'_>) -> Result<String, Failure> {
    let configuration = berth.get("validatingwebhookconfiguration/berth-image-policies")?;
    let bundle = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
    decoded(bundle.as_str().unwrap_or_default(), "caBundle")
}

/// Gives the authority in use a certificate for the same key that began so long ago and is good for so much longer.
fn redate(berth: &Team<'_>, age: Duration, rest: Duration) -> Outcome {
    let key = KeyPair::from_pem(&entry(berth, AUTHORITY, "tls.key")?)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - age).into(), (now + rest).into());
    let certificate = BASE64_STANDARD.encode(params.self_signed(&key)?.pem());
    let patch = json!({"data": {"tls.crt": certificate}}).to_string();
    berth.kubectl(&["patch", AUTHORITY, "--type=merge", "--patch", &patch])?;
    Ok(())
}

/// Waits until the webhook can be called by who trusts one authority alone.
fn served_by(team: &Team<'_>, berth: &Team<'_>, authority: &str) -> Outcome {
    const HOST: &str = "berth-webhook.berth-system.svc";
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let service = berth.get("service/berth-webhook")?;
    let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
    let trusted = Certificate::from_pem(authority.as_bytes())?;
    let client = Client::builder().tls_certs_only([trusted]).resolve(HOST, (address, 443).into()).build()?;
    let network = team.cluster().network()?;
    berth.until("the webhook to serve with it", || {
        network.run(async || {
            client.get(format!("https://{HOST}/healthz")).send().await?.error_for_status()?;
            Ok(())
        })?
    })
}
