//! Who may enter: users of an htpasswd file, the anonymous, nobody (R-AUTH-2).

use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::{Reply, ensure};
use crate::support::process::eventually;
use crate::support::server::{Options, Server, htpasswd};

/// A server with a users file of the given content.
async fn with_users(anonymous: &str, users: &str) -> (Server, TempDir) {
    let files = TempDir::new().expect("a directory can be made");
    let file = files.path().join("htpasswd");
    std::fs::write(&file, users).expect("a file can be written");
    let options = Options::plain("memory:").flag("--anonymous", anonymous).flag("--htpasswd", &file);
    (options.start().await, files)
}

/// A 401 that tells how to log in.
fn challenged(reply: &Reply) -> Test {
    reply.refused(&[401], &["UNAUTHORIZED"])?;
    let challenge = reply.value("www-authenticate")?;
    ensure!(challenge.starts_with("Basic realm="), "the challenge is {challenge:?}");
    Ok(())
}

/// R-AUTH-2: the right password enters, anything else is challenged.
#[tokio::test]
async fn a_password_opens_the_registry() -> Test {
    // Apache's htpasswd writes $2y$, others $2b$ or $2a$: one algorithm, three names.
    let users = [("anna", "$2y$"), ("bert", "$2b$"), ("cleo", "$2a$")]
        .map(|(user, prefix)| htpasswd(user, "secret").replace("$2b$", prefix));
    let (server, _files) = with_users("none", &format!("# people\n\n{}", users.concat())).await;
    let target = server.target();
    challenged(&target.get("/v2/").await?)?;
    for user in ["anna", "bert", "cleo"] {
        let user = target.login(user, "secret");
        user.get("/v2/").await?.status(&[200])?;
        let (repo, image) = (user.fresh(), Manifest::image());
        repo.push(&image, "v1").await?;
        repo.has_manifest(&image, "v1").await?;
    }
    let long = "x".repeat(500);
    for (user, password) in [
        ("anna", "wrong"),
        ("anna", ""),
        ("dora", "secret"),
        ("", ""),
        ("anna", long.as_str()),
        ("# people", ""),
    ] {
        challenged(&target.login(user, password).get("/v2/").await?)?;
    }
    for value in ["Basic", "Basic !!!", "Basic YW5uYQ==", "Bearer abc", "Digest x", "anna:secret", ""] {
        let reply = target.call(Method::GET, "/v2/").header("authorization", value).send().await?;
        reply.refused(&[401], &["UNAUTHORIZED"])?;
    }
    Ok(())
}

/// R-AUTH-2: the users file is read again when it changes; nothing restarts.
#[tokio::test]
async fn users_change_under_a_running_server() -> Test {
    let (server, files) = with_users("none", &htpasswd("anna", "secret")).await;
    let (anna, bert) = (server.target().login("anna", "secret"), server.target().login("bert", "secret"));
    anna.get("/v2/").await?.status(&[200])?;
    challenged(&bert.get("/v2/").await?)?;
    let fresh = files.path().join("htpasswd.new");
    std::fs::write(&fresh, htpasswd("bert", "secret")).expect("a file can be written");
    std::fs::rename(fresh, files.path().join("htpasswd")).expect("a file can be moved");
    eventually("the new user may enter", || async {
        bert.get("/v2/").await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    challenged(&anna.get("/v2/").await?)
}

/// R-AUTH-3: `--anonymous read` lets anyone pull and nobody push.
#[tokio::test]
async fn anyone_may_pull() -> Test {
    let (server, _files) = with_users("read", &htpasswd("anna", "secret")).await;
    let (anna, anyone) = (server.target().login("anna", "secret"), server.target());
    let (repo, image) = (anna.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let theirs = anyone.repository(&repo.name);
    theirs.has_manifest(&image, "v1").await?;
    theirs.has_blob(&image.blobs[0]).await?;
    theirs.tags("").send().await?.status(&[200])?;
    theirs.referrers(&image.digest()).send().await?.status(&[200])?;
    for call in [
        theirs.post_upload(""),
        theirs.put_manifest(&image, "v2"),
        theirs.manifest(Method::DELETE, "v1"),
        theirs.blob(Method::DELETE, &image.blobs[0].digest),
        theirs.post_upload(&format!("?mount={}&from={}", image.blobs[0].digest, repo.name)),
    ] {
        challenged(&call.send().await?)?;
    }
    // Wrong credentials are not the same as none.
    challenged(&anyone.login("anna", "wrong").get("/v2/").await?)?;
    repo.has_manifest(&image, "v1").await
}

/// R-AUTH-3: least privilege by default: a server that was told nothing lets nobody in.
#[tokio::test]
async fn nobody_enters_by_default() -> Test {
    let server = Options::plain("memory:").start().await;
    let target = server.target();
    challenged(&target.get("/v2/").await?)?;
    challenged(&target.fresh().tags("").send().await?)?;
    challenged(&target.fresh().post_upload("").send().await?)
}
