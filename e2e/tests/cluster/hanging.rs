//! A registry that takes connections and never answers, behind the webhook.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Frozen, Guarded, Outcome, pod, story};

/// R-OPR-6: it costs a review our own deadline, not the API server's, so that the denial can name image and cause. Once
/// it answers again, so does the next review.
#[test]
fn a_registry_that_hangs_is_named_in_the_denial() -> Outcome {
    story(|story| {
        let team = story.team("hanging")?;
        let Guarded { registry, .. } = team.guarded()?;
        let missing = pod("missing", &registry.image("app/missing:v1"));
        team.until("the policy to be enforced", || {
            let words = team.denies(&missing)?;
            ensure!(words.contains("no such image"), "{words}");
            Ok(())
        })?;

        let pods = team.list("pods", "berth.dev/registry=registry")?;
        let pods: Vec<_> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        let frozen = Frozen::pods(&team, &pods, "berth-registry")?;
        // Nobody has asked for it before, so nothing is known of it.
        let unseen = registry.image("app/unseen:v1");
        let words = team.denies(&pod("unseen", &unseen))?;
        drop(frozen);
        println!("{}", words.trim());
        // Had it taken the ten seconds that the API server waits, this would be its own complaint.
        for part in [unseen.as_str(), "could not be checked", &registry.host, "ImagePolicy hanging/signed"] {
            ensure!(words.contains(part), "the denial does not say {part:?}: {words}");
        }
        team.until("the registry to be asked again", || {
            let words = team.denies(&pod("unseen", &unseen))?;
            ensure!(words.contains("no such image"), "{words}");
            Ok(())
        })
    })
}
