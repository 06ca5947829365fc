//! Content discovery: tags and repositories, whole and page by page (distribution-spec "Listing Tags";
//! the catalog is older than the specification and kept for its clients).

use reqwest::Method;

use crate::case::cases;
use crate::support::content::{Manifest, unique};
use crate::support::http::{Failure, Outcome, Target, ensure};
use crate::support::repository::{Repository, strings};

cases! { discovery, Discovery:
    Spec "R-OCI-4" all_tags_in_order,
    Spec "R-OCI-4" tags_page_by_page,
    Spec "R-OCI-4" tags_after_one_that_is_not_there,
    Spec "R-OCI-4" a_page_of_no_tags,
    Spec "R-OCI-4" a_page_larger_than_all,
    Spec "R-OCI-4" links_to_the_end,
    Spec "R-OCI-4" tags_of_an_unknown_repository,
    Spec "R-OCI-4" page_sizes_that_are_none,
    Spec "R-OCI-4" odd_values_of_last,
    Spec "R-OCI-4" a_tag_that_is_pushed_meanwhile,
    Berth "R-OCI-4" tags_in_the_order_of_bytes,
    Berth "R-OCI-4" no_tags_are_an_empty_list,
    Spec "R-OCI-4" the_catalog_names_repositories,
    Spec "R-OCI-4" the_catalog_page_by_page,
    Berth "R-OCI-4" catalog_sizes_that_are_none,
    Berth "R-OCI-4" a_repository_next_to_its_parent,
}

const TAGS: [&str; 8] = ["0.9", "1.0", "1.0.1", "1.0-rc1", "beta", "latest", "v1", "v1_a"];

async fn tagged(t: &Target) -> Result<Repository, Failure> {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let puts = TAGS.iter().rev().map(|tag| repo.put_manifest(&image, tag).send());
    for reply in futures::future::try_join_all(puts).await? {
        reply.status(&[201])?;
    }
    Ok(repo)
}

/// The tags in one of the two orders that the specification allows; all here are lower case, so that
/// only the order of bytes is left.
fn sorted() -> Vec<String> {
    let mut tags = TAGS.map(String::from).to_vec();
    tags.sort_unstable();
    tags
}

async fn all_tags_in_order(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let reply = repo.tags("").send().await?;
    let (tags, body) = (strings(&reply, "tags")?, reply.json()?);
    ensure!(tags == sorted(), "expected {:?}, got {tags:?}", sorted());
    ensure!(body["name"] == repo.name, "the list is of {}", body["name"]);
    ensure!(reply.value("content-type")?.starts_with("application/json"), "the list is not application/json");
    Ok(())
}

async fn tags_page_by_page(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let all = sorted();
    for (query, expected) in [
        ("?n=1", &all[..1]),
        ("?n=3", &all[..3]),
        ("?n=3&last=1.0", &all[2..5]),
        ("?n=2&last=latest", &all[6..]),
        ("?last=beta", &all[5..]),
        ("?n=5&last=v1_a", &all[8..]),
        ("?last=zzz", &all[8..]),
    ] {
        let reply = repo.tags(query).send().await?;
        let tags = strings(&reply, "tags")?;
        ensure!(tags == expected, "{query}: expected {expected:?}, got {tags:?}");
    }
    Ok(())
}

/// `last` is a place in the order, not an entry of the list.
async fn tags_after_one_that_is_not_there(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let tags = repo.tag_list("?n=2&last=c").await?;
    ensure!(tags == ["latest", "v1"], "after c: {tags:?}");
    Ok(())
}

async fn a_page_of_no_tags(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let reply = repo.tags("?n=0").send().await?;
    ensure!(strings(&reply, "tags")?.is_empty(), "n=0 gives tags");
    reply.without("link")?;
    Ok(())
}

async fn a_page_larger_than_all(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let reply = repo.tags("?n=1000").send().await?;
    ensure!(strings(&reply, "tags")? == sorted(), "n=1000 does not give all tags");
    ensure!(reply.next_page()?.is_none(), "there is no page after the last");
    Ok(())
}

/// Follows `Link` to the end, and `last` where there is none: every tag once, in order.
async fn links_to_the_end(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let (mut all, mut reply) = (Vec::new(), repo.tags("?n=3").send().await?);
    loop {
        let page = strings(&reply, "tags")?;
        ensure!(page.len() <= 3, "a page of 3 has {} tags", page.len());
        all.extend(page);
        ensure!(all.len() <= TAGS.len(), "more tags than there are: {all:?}");
        let Some(next) = reply.next_page()? else { break };
        reply = t.call_url(Method::GET, next).send().await?;
    }
    ensure!(all == sorted(), "following Link gives {all:?}");
    Ok(())
}

async fn tags_of_an_unknown_repository(t: &Target) -> Outcome {
    t.fresh().tags("").send().await?.refused(&[404], &["NAME_UNKNOWN"])?;
    Ok(())
}

async fn page_sizes_that_are_none(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    for n in ["-1", "a", "1.5", "0x1", "", "99999999999999999999999", "%00", "1%202"] {
        let reply = repo.tags(&format!("?n={n}")).send().await?;
        // A number that no list reaches may as well be obeyed.
        if reply.status(&[200, 400])?.status == 400 {
            reply.refused(&[400], &["UNSUPPORTED", "SIZE_INVALID", "NAME_INVALID"])?;
        }
    }
    Ok(())
}

async fn odd_values_of_last(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    for last in ["", "..%2F..", "%00", "%ff", "%F0%9F%90%B3", "a%20b", "UPPER", "%0d%0ax:y"] {
        let reply = repo.tags(&format!("?n=2&last={last}")).send().await?;
        if reply.status(&[200, 400])?.status == 200 {
            strings(&reply, "tags")?;
        } else {
            reply.refused(&[400], &[])?;
        }
    }
    let long = "z".repeat(3000);
    repo.tags(&format!("?last={long}")).send().await?.status(&[200, 400, 414])?;
    Ok(())
}

/// A list that is read page by page while it grows shows every tag that was there all along, once.
async fn a_tag_that_is_pushed_meanwhile(t: &Target) -> Outcome {
    let repo = tagged(t).await?;
    let image = Manifest::image();
    let first = repo.tag_list("?n=4").await?;
    repo.push(&image, "aaa").await?;
    let last = first.last().map(String::as_str).unwrap_or_default();
    let rest = repo.tag_list(&format!("?n=100&last={last}")).await?;
    let all: Vec<_> = first.iter().chain(&rest).filter(|tag| *tag != "aaa").cloned().collect();
    ensure!(all == sorted(), "read page by page: {all:?}");
    Ok(())
}

/// Upper case comes first, as in Go's `sort.Strings`.
async fn tags_in_the_order_of_bytes(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    for tag in ["b", "A", "a", "B", "_", "0"] {
        repo.push(&image, tag).await?;
    }
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["0", "A", "B", "_", "a", "b"], "got {tags:?}");
    let tags = repo.tag_list("?n=2&last=B").await?;
    ensure!(tags == ["_", "a"], "after B: {tags:?}");
    Ok(())
}

/// A repository without tags is still one.
async fn no_tags_are_an_empty_list(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push_untagged(&Manifest::image()).await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags.is_empty(), "got {tags:?}");
    Ok(())
}

/// Five repositories below a prefix that nothing else has; the prefix is returned.
async fn repositories(t: &Target) -> Result<String, Failure> {
    let prefix = format!("catalog/{:016x}", unique());
    for name in ["e", "a", "c", "b", "d"] {
        t.repository(&format!("{prefix}/{name}")).push(&Manifest::image(), "v1").await?;
    }
    Ok(prefix)
}

async fn catalog(t: &Target, query: &str) -> Result<Vec<String>, Failure> {
    strings(&t.get(&format!("/v2/_catalog{query}")).await?, "repositories")
}

async fn the_catalog_names_repositories(t: &Target) -> Outcome {
    let prefix = repositories(t).await?;
    let found = catalog(t, &format!("?n=5&last={prefix}")).await?;
    let expected: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| format!("{prefix}/{name}")).collect();
    ensure!(found == expected, "expected {expected:?}, got {found:?}");
    Ok(())
}

/// From a place in the order, along `Link`.
async fn the_catalog_page_by_page(t: &Target) -> Outcome {
    let prefix = repositories(t).await?;
    let mut found = Vec::new();
    let mut reply = t.get(&format!("/v2/_catalog?n=2&last={prefix}")).await?;
    while found.len() < 5 {
        let page = strings(&reply, "repositories")?;
        ensure!(!page.is_empty() && page.len() <= 2, "a page of 2 has {} names", page.len());
        found.extend(page);
        // Another case may have pushed repositories behind ours: there is a page or there is none.
        let Some(next) = reply.next_page()? else { break };
        reply = t.call_url(Method::GET, next).send().await?;
    }
    found.truncate(5);
    let expected: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| format!("{prefix}/{name}")).collect();
    ensure!(found == expected, "expected {expected:?}, got {found:?}");
    Ok(())
}

async fn catalog_sizes_that_are_none(t: &Target) -> Outcome {
    let none = t.get("/v2/_catalog?n=0").await?;
    ensure!(strings(&none, "repositories")?.is_empty(), "n=0 gives repositories");
    none.without("link")?;
    for n in ["-1", "a", "1.5", "%00"] {
        let reply = t.get(&format!("/v2/_catalog?n={n}")).await?;
        reply.refused(&[400], &["UNSUPPORTED", "SIZE_INVALID", "NAME_INVALID"])?;
    }
    Ok(())
}

/// `a`, `a-b`, `a/b`, `a.b` are four repositories whose keys begin alike: no list mixes them up.
async fn a_repository_next_to_its_parent(t: &Target) -> Outcome {
    let root = format!("near/{:016x}", unique());
    let names = ["", "-b", ".b", "/b", "/b/c", "0"].map(|end| format!("{root}{end}"));
    for (i, name) in names.iter().enumerate() {
        t.repository(name).push(&Manifest::image(), &format!("v{i}")).await?;
    }
    for (i, name) in names.iter().enumerate() {
        let tags = t.repository(name).tag_list("").await?;
        ensure!(tags == [format!("v{i}")], "{name} has the tags {tags:?}");
    }
    let found = catalog(t, &format!("?n=5&last={root}")).await?;
    let mut expected = names[1..].to_vec();
    expected.sort_unstable();
    ensure!(found == expected, "expected {expected:?}, got {found:?}");
    Ok(())
}
