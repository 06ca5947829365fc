//! TLS: certificates that are exchanged under a running server, as cert-manager and Kubernetes do it
//! (R-OPS-3).

use std::os::unix::fs::symlink;
use std::path::Path;

use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::authority::{Authority, write};
use crate::support::content::Manifest;
use crate::support::http::{Target, ensure};
use crate::support::process::eventually;
use crate::support::server::Options;

/// Waits until new connections are shown this certificate; every request on the way must succeed.
async fn shows(target: &Target, certificate: &[u8]) {
    eventually("the new certificate is served", || async {
        let reply = target.get("/v2/").await.unwrap_or_else(|e| panic!("during the exchange: {e}"));
        assert_eq!(reply.status, 200, "during the exchange");
        reply.certificate.as_deref() == Some(certificate)
    })
    .await;
}

fn options(directory: &Path) -> Options {
    Options::on("memory:")
        .flag("--anonymous", "write")
        .flag("--tls-cert", directory.join("tls.crt"))
        .flag("--tls-key", directory.join("tls.key"))
}

/// R-OPS-3: files written in place; an image that is pushed across the exchange arrives.
#[tokio::test]
async fn a_certificate_is_exchanged_in_place() -> Test {
    let (files, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    let (certificate, key, first) = authority.leaf();
    write(files.path(), &certificate, &key);
    let (_server, target) = authority.start(&options(files.path())).await;
    shows(&target, &first).await;
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let (certificate, key, second) = authority.leaf();
    write(files.path(), &certificate, &key);
    shows(&target, &second).await;
    repo.put_manifest(&image, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await
}

/// R-OPS-3: Kubernetes swaps a symbolic link, so that both files change in one moment.
#[tokio::test]
async fn a_certificate_is_exchanged_by_a_link() -> Test {
    let (files, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    let root = files.path();
    let generation = |name: &str| {
        let (certificate, key, der) = authority.leaf();
        let directory = root.join(name);
        std::fs::create_dir(&directory).expect("a directory can be made");
        write(&directory, &certificate, &key);
        symlink(name, root.join("..new")).expect("a link can be made");
        std::fs::rename(root.join("..new"), root.join("..data")).expect("a link can be moved");
        der
    };
    let first = generation("..1");
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), root.join(file)).expect("a link can be made");
    }
    let (_server, target) = authority.start(&options(root)).await;
    shows(&target, &first).await;
    for name in ["..2", "..3"] {
        shows(&target, &generation(name)).await;
    }
    Ok(())
}

/// R-OPS-3: files that are no certificate are reported, and the old one goes on serving.
#[tokio::test]
async fn a_broken_certificate_changes_nothing() -> Test {
    let (files, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    let (certificate, key, first) = authority.leaf();
    write(files.path(), &certificate, &key);
    let (mut server, target) = authority.start(&options(files.path())).await;
    write(files.path(), "not a certificate", &key);
    let path = files.path().join("tls.crt").display().to_string();
    let complaint = server.process.wait_for_line(|line| {
        let loud = line.contains("\"WARN\"") || line.contains("\"ERROR\"");
        (loud && line.contains(&path)).then(|| line.to_owned())
    });
    ensure!(
        complaint.await.is_some(),
        "the server does not say that {path} is broken:\n{}",
        server.process.log()
    );
    shows(&target, &first).await;
    let (certificate, key, second) = authority.leaf();
    write(files.path(), &certificate, &key);
    shows(&target, &second).await;
    Ok(())
}

/// R-OPS-3: TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2; nobody is served without TLS.
#[tokio::test]
async fn versions_of_tls_and_http() -> Test {
    let (files, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    let (certificate, key, _) = authority.leaf();
    write(files.path(), &certificate, &key);
    let (server, _) = authority.start(&options(files.path())).await;
    let base = format!("https://{}", server.address);
    let builder = || authority.client();
    for client in [
        builder().tls_version_max(reqwest::tls::Version::TLS_1_2),
        builder().tls_version_min(reqwest::tls::Version::TLS_1_3),
        builder().http1_only(),
        builder().http2_prior_knowledge(),
    ] {
        let target = Target::with_client(&base, client.build().expect("a TLS client can be built"));
        let (repo, image) = (target.fresh(), Manifest::image());
        repo.push(&image, "v1").await?;
        repo.has_manifest(&image, "v1").await?;
    }
    let plain = server.target().call(Method::GET, "/v2/").send().await;
    ensure!(plain.is_err_and(|_| true), "plain HTTP is answered on the TLS port");
    Ok(())
}
