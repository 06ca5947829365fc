//! Our own server on each kind of store, as it comes, with what an administrator may switch on, and behind a login.

use crate::case::{Case, EXTRAS, Scope, run};
use crate::suite::in_scope;
use crate::support::s3::S3;
use crate::support::server::{Options, directory, htpasswd};

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
