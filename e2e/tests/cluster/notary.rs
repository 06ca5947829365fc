//! Signatures of the Notary Project, as the real notation makes them.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Envelope, Outcome, pod, story};
use serde_json::json;

/// R-SIG-3: what an authority's signer signed is admitted in both forms; nobody's, another authority's and another signer's
/// is not, and each denial says which it is.
#[test]
fn an_image_runs_when_the_notary_projects_signature_holds() -> Outcome {
    story(|story| {
        let team = story.team("notarised")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let (ours, theirs) = (team.notary("ours")?, team.notary("theirs")?);
        let push =
            |name: &str| team.push(&registry, &format!("app/{name}:v1"), &format!("{name}, notarised"));
        let (jws, cose, bare) = (push("jws")?, push("cose")?, push("bare")?);
        let (foreign, unnamed) = (push("foreign")?, push("unnamed")?);
        team.notarise(&ours, "acme", &jws.pinned, Envelope::Jws)?;
        team.notarise(&ours, "acme", &cose.pinned, Envelope::Cose)?;
        team.notarise(&theirs, "acme", &foreign.pinned, Envelope::Jws)?;
        team.notarise(&ours, "somebody", &unnamed.pinned, Envelope::Cose)?;
        team.apply_policy(
            "notarised",
            &json!({
                "mode": "Enforce",
                "images": [registry.image("**")],
                "require": [{"signature": {"authorities": [{
                    "name": "release",
                    "notation": {
                        "trustStore": {"pem": ours.certificate()},
                        "identities": ["x509.subject: C=US, ST=WA, O=acme"],
                    },
                }]}}],
            }),
        )?;
        let attempt = |image: &str| pod("attempt", image);
        let words = team.until("the policy to be enforced", || team.denies(&attempt(&bare.tagged)))?;
        for part in ["no signature was found", "release", &format!("notation sign {}", bare.pinned)] {
            ensure!(words.contains(part), "the denial does not say {part:?}: {words}");
        }
        team.pull_secret()?;
        team.apply(&attempt(&jws.tagged))?;
        team.admits(&pod("another", &cose.tagged))?;
        let words = team.denies(&pod("another", &foreign.tagged))?;
        ensure!(words.contains("O=theirs") && words.contains("not in the trust store"), "{words}");
        let words = team.denies(&pod("another", &unnamed.tagged))?;
        ensure!(words.contains("O=somebody") && words.contains("no authority of this policy"), "{words}");
        team.wait("pod/attempt", "condition=Ready")
    })
}
