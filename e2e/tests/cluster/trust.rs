//! What an `ImagePolicy` may want beyond a signature, shown with images that the real cosign signs and attests.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Form, Key, Outcome, Pushed, Team, pod, story};
use serde_json::{Value, json};

const VULNERABILITIES: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

/// R-SIG-4: a scan is wanted by its type and by what it says, in both of cosign's forms; the denial names what is missing.
#[test]
fn an_image_runs_when_its_attestation_holds() -> Outcome {
    story(|story| {
        let team = story.team("attested")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let scanner = team.signing_key("scanner")?;
        let stranger = team.signing_key("stranger")?;
        let push = |name: &str| team.push(&registry, &format!("app/{name}:v1"), name);
        let (clean, classic, dirty) = (push("clean")?, push("classic")?, push("dirty")?);
        let (foreign, bare) = (push("foreign")?, push("bare")?);
        team.attest(&scanner, &clean.pinned, "vuln", &scan(0), Form::Bundle)?;
        team.attest(&scanner, &classic.pinned, "vuln", &scan(0), Form::Classic)?;
        team.attest(&scanner, &dirty.pinned, "vuln", &scan(2), Form::Bundle)?;
        team.attest(&stranger, &foreign.pinned, "vuln", &scan(0), Form::Bundle)?;
        team.sign(&scanner, &bare.pinned, Form::Bundle)?;
        team.apply_policy(
            "scanned",
            &json!({
                "mode": "Enforce",
                "images": [registry.image("**")],
                "require": [{"attestation": {
                    "predicateType": VULNERABILITIES,
                    "authorities": [{"name": "scanner", "key": {"pem": scanner.public()?}}],
                    "conditions": ["predicate.scanner.result.critical == 0"],
                }}],
            }),
        )?;
        let words = team.until("the policy to be enforced", || team.denies(&attempt(&bare.tagged)))?;
        ensure!(words.contains(VULNERABILITIES) && words.contains("scanner"), "{words}");
        for admitted in [&clean, &classic] {
            team.admits(&attempt(&admitted.tagged))?;
        }
        let words = team.denies(&attempt(&dirty.tagged))?;
        ensure!(words.contains("predicate.scanner.result.critical == 0"), "which condition? {words}");
        let words = team.denies(&attempt(&foreign.tagged))?;
        ensure!(words.contains("scanner"), "{words}");
        Ok(())
    })
}

/// R-OPR-6: an allow-list is a policy whose other images are refused; an exception names an image, an owner, a reason and
/// an end; a digest may be asked for; `Audit` lets in and says nothing to the caller.
#[test]
fn policies_allow_except_and_watch() -> Outcome {
    story(|story| {
        let team = story.team("rules")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let key = team.signing_key("release")?;
        let bare = team.push(&registry, "app/bare:v1", "bare of rules")?;
        let old = team.push(&registry, "legacy/old:v1", "old of rules")?;

        team.apply_policy(
            "ours-only",
            &json!({"mode": "Enforce", "images": [registry.image("**")], "unmatched": "Deny", "require": [{"digest": {}}]}),
        )?;
        let words = team.until("the allow-list to be enforced", || {
            team.denies(&attempt("docker.io/library/busybox:1"))
        })?;
        ensure!(words.contains("rules/ours-only"), "{words}");
        let words = team.denies(&attempt(&bare.tagged))?;
        ensure!(words.contains("name it by digest"), "the cure is not told: {words}");
        team.admits(&attempt(&bare.pinned))?;
        team.kubectl(&["delete", "imagepolicy/ours-only"])?;

        team.apply_policy("signed", &signed(&registry, &key, "Enforce", &json!([exception(&old)]))?)?;
        team.until("signatures to be enforced", || team.denies(&attempt(&bare.tagged)))?;
        team.admits(&attempt(&old.tagged))?;
        let other = team.push(&registry, "legacy/old:v1", "old of rules, changed")?;
        let words = team.denies(&attempt(&other.tagged))?;
        ensure!(words.contains("release"), "an exception for one digest let in another: {words}");

        team.apply_policy("signed", &signed(&registry, &key, "Audit", &json!([]))?)?;
        team.until("the policy to only watch", || Ok(team.admits(&attempt(&bare.tagged))?))?;
        Ok(())
    })
}

/// R-SIG-5, R-OPR-6: nothing outlives what it rests on. A signature that is deleted, and a key that is taken out of its
/// Secret, count no more for the next Pod.
#[test]
fn a_deleted_signature_and_a_withdrawn_key_count_no_more() -> Outcome {
    story(|story| {
        let team = story.team("withdrawn")?;
        let guarded = team.guarded()?;
        let (registry, web) = (&guarded.registry, &guarded.web);
        let release = team.signing_key("second")?;
        let bare = team.push(registry, "app/bare:v1", "bare of withdrawn")?;
        team.until("the policy to be enforced", || team.denies(&attempt(&bare.tagged)))?;
        team.admits(&attempt(&web.tagged))?;
        team.admits(&attempt(&web.pinned))?;

        for referrer in referrers(&team, web)? {
            team.run("regctl", &["manifest", "delete", &format!("{}@{referrer}", repository(web))])?;
        }
        team.until("the signature to be forgotten", || team.denies(&attempt(&web.pinned)))?;
        let words = team.denies(&attempt(&web.tagged))?;
        ensure!(words.contains("no signature was found"), "{words}");

        team.sign(&release, &web.pinned, Form::Bundle)?;
        let mut policy = signed(registry, &release, "Enforce", &json!([]))?;
        let key = json!({"secretName": team.publish(&release)?});
        policy["require"][0]["signature"]["authorities"][0]["key"] = key;
        team.apply_policy("signed", &policy)?;
        team.until("the new key to count", || Ok(team.admits(&attempt(&web.pinned))?))?;
        team.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cosign-second"},
            "stringData": {"cosign.pub": team.signing_key("third")?.public()?},
        }))?;
        team.until("the old key to be forgotten", || team.denies(&attempt(&web.pinned)))?;
        Ok(())
    })
}

fn attempt(image: &str) -> Value {
    pod("attempt", image)
}

fn scan(critical: u32) -> Value {
    json!({
        "invocation": {},
        "scanner": {"uri": "https://example.com/scanner", "result": {"critical": critical}},
        "metadata": {"scanStartedOn": "2026-01-01T00:00:00Z", "scanFinishedOn": "2026-01-01T00:00:01Z"},
    })
}

fn exception(image: &Pushed) -> Value {
    json!({"images": [image.pinned], "owner": "team-legacy", "reason": "runs until the rewrite", "expires": "2999-01-01T00:00:00Z"})
}

/// A policy that wants a signature by a key.
fn signed(registry: &Endpoint, key: &Key, mode: &str, exceptions: &Value) -> Result<Value, Failure> {
    let authority = json!({"name": key.name(), "key": {"pem": key.public()?}});
    let mut spec = json!({
        "mode": mode,
        "images": [registry.image("**")],
        "require": [{"signature": {"authorities": [authority]}}],
    });
    if exceptions.as_array().is_some_and(|list| !list.is_empty()) {
        spec["exceptions"] = exceptions.clone();
    }
    Ok(spec)
}

fn referrers(team: &Team<'_>, image: &Pushed) -> Result<Vec<String>, Failure> {
    let list = team.run("regctl", &["artifact", "list", &image.pinned, "--format={{json .}}"])?;
    let list: Value = serde_json::from_str(&list)?;
    let descriptors = list["descriptors"].as_array().cloned().unwrap_or_default();
    let digests: Vec<_> =
        descriptors.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect();
    ensure!(!digests.is_empty(), "no referrers: {list}");
    Ok(digests)
}

fn repository(image: &Pushed) -> &str {
    image.pinned.split('@').next().unwrap_or_default()
}
