//! Conformance to OCI distribution-spec 1.1, and to what Berth promises beyond it, as tables of cases
//! that run against any registry over HTTP.
//!
//! - `cargo test -p berth-registry --test conformance` starts our own server on each kind of store.
//! - `BERTH_TOOL_VERSITYGW=…` adds S3; `BERTH_TOOL_DISTRIBUTION=…` runs the cases on CNCF distribution,
//!   which tests the cases themselves.
//! - `BERTH_CONFORMANCE_URL=https://… [BERTH_CONFORMANCE_USER=… BERTH_CONFORMANCE_PASSWORD=…]` asks a
//!   registry that runs already (with `BERTH_CONFORMANCE_SCOPE=berth` also for our own promises).

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod conditional;
mod discovery;
mod errors;
mod immutable;
mod limits;
mod management;
mod manifests;
mod mount;
mod pull;
mod push;
mod ranges;
mod referrers;
mod refusals;
mod sessions;
mod sha512;
mod sparse;

use case::{Case, EXTRAS, Scope, run};
use support::distribution::Distribution;
use support::http::Target;
use support::s3::S3;
use support::server::{Options, directory, htpasswd};

fn all() -> impl Iterator<Item = &'static Case> {
    [
        pull::CASES,
        ranges::CASES,
        push::CASES,
        sessions::CASES,
        sha512::CASES,
        mount::CASES,
        manifests::CASES,
        conditional::CASES,
        refusals::CASES,
        discovery::CASES,
        referrers::CASES,
        management::CASES,
        errors::CASES,
        limits::CASES,
        sparse::CASES,
        immutable::CASES,
    ]
    .into_iter()
    .flatten()
}

fn in_scope(scopes: &[Scope]) -> impl Iterator<Item = &'static Case> {
    all().filter(move |case| scopes.contains(&case.scope))
}

/// What our server promises as it comes.
fn ours() -> impl Iterator<Item = &'static Case> {
    in_scope(&[Scope::Spec, Scope::Berth])
}

/// The options of a server that passes the cases of `Scope::Extra`.
fn with_extras(options: Options) -> Options {
    EXTRAS.lines().fold(options, Options::switch)
}

/// R-OCI-1, R-STO-1: our server on memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let server = Options::open("memory:").start().await;
    run("berth on memory", &server.target(), ours()).await.check(&[]);
}

/// R-OCI-1, R-STO-1: our server on a directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory() {
    let content = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Options::open(&directory(content.path())).start().await;
    run("berth on a directory", &server.target(), ours()).await.check(&[]);
}

/// R-OCI-1, R-STO-1: our server on a real S3 server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let Some(s3) = S3::start().await else { return };
    let server = s3.options("conformance/").start().await;
    run("berth on S3", &server.target(), ours()).await.check(&[]);
}

/// R-OCI-1: sparse manifests and immutable tags change nothing that the specification asks of everyone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_extras_on_memory() {
    let server = with_extras(Options::open("memory:")).start().await;
    let cases = in_scope(&[Scope::Spec, Scope::Extra]);
    run("berth with extras on memory", &server.target(), cases).await.check(&[]);
}

/// R-OCI-1, R-STO-1: the same on a directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_extras_on_a_directory() {
    let content = tempfile::tempdir().expect("a temporary directory can be made");
    let server = with_extras(Options::open(&directory(content.path()))).start().await;
    run("berth with extras on a directory", &server.target(), in_scope(&[Scope::Extra])).await.check(&[]);
}

/// R-OCI-1, R-STO-1: the same on a real S3 server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_extras_on_s3() {
    let Some(s3) = S3::start().await else { return };
    let server = with_extras(s3.options("conformance/")).start().await;
    run("berth with extras on S3", &server.target(), in_scope(&[Scope::Extra])).await.check(&[]);
}

/// R-OCI-1, R-AUTH-2: our server closed to the anonymous, asked by a user of the htpasswd file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_login() {
    let files = tempfile::tempdir().expect("a temporary directory can be made");
    let users = files.path().join("htpasswd");
    std::fs::write(&users, htpasswd("tester", "secret")).expect("a file can be written");
    let server =
        Options::plain("memory:").flag("--anonymous", "none").flag("--htpasswd", &users).start().await;
    let target = server.target().login("tester", "secret");
    run("berth behind a login", &target, ours()).await.check(&[]);
}

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
