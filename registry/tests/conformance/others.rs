//! Registries that are not ours: one that runs elsewhere, and CNCF distribution, which tests the cases themselves.

use crate::case::{Scope, run};
use crate::suite::in_scope;
use crate::support::distribution::Distribution;
use crate::support::http::Target;

/// Any registry that runs already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_elsewhere() {
    let Ok(url) = std::env::var("BERTH_CONFORMANCE_URL") else {
        println!("skipped: BERTH_CONFORMANCE_URL names no registry");
        return;
    };
    let target = Target::new(&url);
    let target = match std::env::var("BERTH_CONFORMANCE_USER") {
        Ok(user) => target.login(&user, &std::env::var("BERTH_CONFORMANCE_PASSWORD").unwrap_or_default()),
        Err(_) => target,
    };
    let ours = std::env::var("BERTH_CONFORMANCE_SCOPE").is_ok_and(|scope| scope == "berth");
    let cases = in_scope(if ours { &[Scope::Spec, Scope::Berth] } else { &[Scope::Spec] });
    run(&url, &target, cases).await.check(&[]);
}

/// Tests the cases: distribution v3.1 passes all that the specification asks of everyone, but these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn distribution() {
    let Some(registry) = Distribution::start().await else { return };
    run("distribution", &registry.target(), in_scope(&[Scope::Spec])).await.check(DISTRIBUTION_DEVIATES);
}

/// Cases that distribution v3.1.1 is known to fail, and why.
const DISTRIBUTION_DEVIATES: &[(&str, &str)] = &[
    ("discovery/odd_values_of_last", "500 for a zero byte in a query"),
    ("discovery/page_sizes_that_are_none", "answers with a code that is not in the specification"),
    ("discovery/tags_page_by_page", "an empty page is `null`"),
    ("errors/bytes_that_are_no_request", "500 for a name longer than a file name may be"),
    ("errors/digests_that_are_none", "what its routes do not match is answered in plain text"),
    ("errors/methods_that_do_not_apply", "every method of /v2/ is 200"),
    ("errors/names_that_are_none", "what its routes do not match is answered in plain text"),
    ("errors/tags_that_are_none", "what its routes do not match is answered in plain text"),
    ("errors/upload_ids_that_are_none", "what its routes do not match is answered in plain text"),
    ("management/references_that_are_none", "500 for a malformed digest"),
    ("manifests/a_subject", NO_REFERRERS),
    ("manifests/a_subject_that_is_not_here_yet", NO_REFERRERS),
    ("manifests/an_index_with_a_subject", NO_REFERRERS),
    ("pull/a_manifest_is_never_converted", "404 for a client that names no types"),
    ("referrers/an_index_with_and_without_a_type", NO_REFERRERS),
    ("referrers/artifacts_with_their_descriptors", NO_REFERRERS),
    ("referrers/attached_before_the_subject", NO_REFERRERS),
    ("referrers/digests_that_are_none", NO_REFERRERS),
    ("referrers/many_writers_at_once", NO_REFERRERS),
    ("referrers/none", NO_REFERRERS),
    ("referrers/none_in_an_unknown_repository", NO_REFERRERS),
    ("referrers/none_of_another_repository", NO_REFERRERS),
    ("referrers/one_that_is_deleted", NO_REFERRERS),
    ("referrers/one_type_only", NO_REFERRERS),
    ("referrers/referrers_of_referrers", NO_REFERRERS),
    ("referrers/the_subject_is_deleted", NO_REFERRERS),
    ("referrers/the_type_of_an_image_is_its_configs", NO_REFERRERS),
    ("refusals/bytes_that_are_no_manifest", "500 for a document without a schema version"),
    ("refusals/fields_that_are_wrong", "500 for another schema version"),
    ("refusals/indexes_that_are_wrong", "500 for another schema version"),
    ("refusals/subjects_that_are_wrong", NO_REFERRERS),
    ("sessions/a_content_range_that_is_none", "500 for a range without numbers"),
    ("sessions/a_last_chunk_out_of_order", "does not look at the range of the closing PUT"),
    ("sha512/a_blob_as_a_stream", CANONICAL),
    ("sha512/a_blob_by_a_single_post", CANONICAL),
    ("sha512/a_blob_by_post_then_put", CANONICAL),
    ("sha512/a_blob_in_chunks", CANONICAL),
    ("sha512/a_manifest", CANONICAL),
    ("sha512/a_mounted_blob", CANONICAL),
    ("sha512/an_empty_blob", CANONICAL),
    ("sha512/an_index", CANONICAL),
];

const NO_REFERRERS: &str = "has no referrers API and does not read `subject`";
const CANONICAL: &str = "keeps everything under its sha256 and answers with that";
