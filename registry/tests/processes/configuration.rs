//! Flags, variables and the file: three ways to say the same, in a fixed order of precedence; what is
//! misspelt is refused with its name.

use tempfile::TempDir;

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::ensure;
use crate::support::server::{Options, Server, htpasswd};

/// A configuration file in a directory of its own.
fn file(content: &str) -> (TempDir, String) {
    let directory = TempDir::new().expect("a directory can be made");
    let path = directory.path().join("berth.yaml");
    std::fs::write(&path, content).expect("a file can be written");
    let path = path.display().to_string();
    (directory, path)
}

/// The server does not start; everything that it said is returned.
async fn refused(options: &Options) -> String {
    let mut process = options.spawn();
    let status = process.wait().await;
    // The pipes may be read a moment after the process has ended.
    let _ = process.wait_for_line(|_| None::<()>).await;
    assert!(!status.success(), "it ended with {status} instead of refusing:\n{}", process.log());
    process.log()
}

/// An unknown key is named.
#[tokio::test]
async fn an_unknown_key_is_refused() -> Test {
    for content in ["plainHtp: true\n", "tls: {cert: a, key: b, keey: c}\n", "lifecycle: [{priorty: 1}]\n"] {
        let key =
            ["plainHtp", "keey", "priorty"].into_iter().find(|key| content.contains(key)).unwrap_or("?");
        let (_directory, path) = file(content);
        let said = refused(&Options::plain("memory:").flag("--config", &path)).await;
        ensure!(
            said.contains(key) && said.contains(&path),
            "the refusal does not name {key} and {path}: {said}"
        );
    }
    Ok(())
}

/// What contradicts itself or is missing is refused before anything listens.
#[tokio::test]
async fn settings_that_cannot_be_meant() -> Test {
    let (_directory, no_yaml) = file("{[");
    for (options, names) in [
        (Options::plain("memory:").flag("--config", "/nowhere/berth.yaml"), "/nowhere/berth.yaml"),
        (Options::plain("memory:").flag("--config", &no_yaml), &no_yaml[..]),
        (Options::on("memory:"), "--plain-http"),
        (Options::plain("memory:").flag("--tls-cert", "/a").flag("--tls-key", "/b"), "--plain-http"),
        (Options::on("memory:").flag("--tls-cert", "/a"), "--tls-key"),
        (
            Options::on("memory:").flag("--tls-cert", "/nowhere/a").flag("--tls-key", "/nowhere/b"),
            "/nowhere/a",
        ),
        (Options::plain("ftp://somewhere"), "ftp://somewhere"),
        (Options::plain("memory:").flag("--htpasswd", "/nowhere/users"), "/nowhere/users"),
        (Options::open("memory:").switch("--plain-htp"), "--plain-htp"),
        (Options::plain("memory:").flag("--anonymous", "everything"), "everything"),
        (Options::plain("memory:").variable("BERTH_ANONYMOUS", "everything"), "everything"),
        (Options::default().switch("--plain-http"), "--store"),
    ] {
        let said = refused(&options).await;
        ensure!(said.contains(names), "the refusal does not name {names}: {said}");
    }
    Ok(())
}

/// What every server here was told: no TLS, a user, anyone may pull.
async fn behaves(server: &Server) -> Test {
    let (anna, anyone) = (server.target().login("anna", "secret"), server.target());
    let (repo, image) = (anna.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    anyone.repository(&repo.name).has_manifest(&image, "v1").await?;
    anyone.repository(&repo.name).post_upload("").send().await?.refused(&[401], &["UNAUTHORIZED"])?;
    Ok(())
}

/// R-OPR-1: the same settings, said in three ways.
#[tokio::test]
async fn flags_variables_and_file_mean_the_same() -> Test {
    let users = TempDir::new().expect("a directory can be made");
    let path = users.path().join("htpasswd");
    std::fs::write(&path, htpasswd("anna", "secret")).expect("a file can be written");
    let path = path.display().to_string();

    let flags = Options::plain("memory:").flag("--anonymous", "read").flag("--htpasswd", &path);
    behaves(&flags.start().await).await?;

    let variables = Options::default()
        .variable("BERTH_LISTEN", "127.0.0.1:0")
        .variable("BERTH_STORE", "memory:")
        .variable("BERTH_PLAIN_HTTP", "true")
        .variable("BERTH_ANONYMOUS", "read")
        .variable("BERTH_HTPASSWD", &path);
    behaves(&variables.start().await).await?;

    let (_directory, config) = file(&format!(
        "listen: 127.0.0.1:0\nstore: 'memory:'\nplainHttp: true\nanonymous: read\nhtpasswd: {path}\n"
    ));
    behaves(&Options::default().flag("--config", &config).start().await).await?;
    behaves(&Options::default().variable("BERTH_CONFIG", &config).start().await).await
}

/// A flag wins over a variable, a variable over the file.
#[tokio::test]
async fn the_order_of_precedence() -> Test {
    let (_directory, config) =
        file("listen: 127.0.0.1:0\nstore: 'memory:'\nplainHttp: true\nanonymous: none\n");
    let told = Options::default().flag("--config", &config);
    let pushes = |server: Server| async move {
        let reply = server.target().fresh().post_upload("").send().await?;
        Ok::<_, crate::support::http::Failure>(reply.status)
    };
    ensure!(pushes(told.clone().start().await).await? == 401, "the file's `none` does not hold");
    let told = told.variable("BERTH_ANONYMOUS", "write");
    ensure!(pushes(told.clone().start().await).await? == 202, "the variable does not win over the file");
    let told = told.flag("--anonymous", "none");
    ensure!(pushes(told.start().await).await? == 401, "the flag does not win over the variable");
    Ok(())
}
