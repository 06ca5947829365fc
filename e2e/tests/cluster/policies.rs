//! What an `ImagePolicy` says besides who signs: what it binds, what may run at all, who is excepted, and how quiet it is.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Outcome, pod, story};
use serde_json::json;

/// R-OPR-6, R-SIG-5: a list of what may run, an exception, and labels; a second policy that only records changes nothing.
#[test]
fn a_policy_lists_excepts_and_sorts() -> Outcome {
    story(|story| {
        let team = story.team("listed")?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let key = team.signing_key("release")?;
        let bare = team.push(&registry, "app/bare:v1", "bare, listed")?;
        let old = team.push(&registry, "legacy/old:v1", "old, excepted")?;
        team.apply_policy(
            "rehearsal",
            &json!({"mode": "Audit", "images": ["**"], "require": [{"digest": {}}]}),
        )?;
        team.apply_policy(
            "listed",
            &json!({
                "mode": "Enforce",
                "objects": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["unbound"]}]},
                "images": [registry.image("**")],
                "unmatched": "Deny",
                "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": key.public()?}}]}}],
                "exceptions": [{
                    "images": [registry.image("legacy/**")], "reason": "is replaced", "owner": "team",
                    "expires": "2999-01-01T00:00:00Z",
                }],
            }),
        )?;
        let words = team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)))?;
        ensure!(words.contains("a signature by release is needed"), "{words}");
        ensure!(!words.contains("rehearsal"), "a policy that only records is heard: {words}");
        team.apply(&pod("old", &old.tagged))?;
        let words = team.refused(&pod("elsewhere", "docker.io/library/alpine:3"))?;
        ensure!(words.contains("none of the images that the policy allows"), "{words}");

        // A label that brings a Pod into scope is no new image.
        team.apply(&pod("unbound", &bare.tagged))?;
        team.kubectl(&["label", "--overwrite", "pod/unbound", "app=bound"])?;

        let status = team.get("imagepolicy/listed")?["status"]["conditions"][0].clone();
        ensure!(status["message"].to_string().contains("all other images are refused"), "{status}");
        Ok(())
    })
}
