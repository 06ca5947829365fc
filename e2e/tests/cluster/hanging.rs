//! A registry that takes connections and never answers, behind the webhook.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Form, Frozen, Guarded, Outcome, pod, story};

/// R-OPR-6: it costs a review our own deadline, not the API server's, so that the denial can name image and cause. Once
/// it answers again, so does the next review.
#[test]
fn a_registry_that_hangs_is_named_in_the_denial() -> Outcome {
    story(|story| {
        let team = story.team("hanging")?;
        let Guarded { registry, key, .. } = team.guarded()?;
        let late = team.push(&registry, "app/late:v1", "late")?;
        team.sign(&key, &late.pinned, Form::Bundle)?;
        let missing = pod("missing", &registry.image("app/missing:v1"));
        team.until("the policy to be enforced", || {
            let words = team.denies(&missing)?;
            ensure!(words.contains("no such image"), "{words}");
            Ok(())
        })?;

        let pods = team.list("pods", "berth.dev/registry=registry")?;
        let pods: Vec<_> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        let frozen = Frozen::pods(&team, &pods, "berth-registry")?;
        let words = team.denies(&pod("late", &late.tagged))?;
        drop(frozen);
        println!("{}", words.trim());
        // Had it taken the ten seconds that the API server waits, this would be its own complaint.
        for part in
            [late.tagged.as_str(), "could not be checked", &registry.host, "ImagePolicy hanging/signed"]
        {
            ensure!(words.contains(part), "the denial does not say {part:?}: {words}");
        }
        team.until("the image to be admitted", || Ok(team.admits(&pod("late", &late.tagged))?))?;
        Ok(())
    })
}
