//! Image references as people and Pods write them: `host[:port]/repository[:tag][@digest]`, normalised.

use std::{fmt, str::FromStr};

use crate::{
    digest::{Digest, short},
    name::{RepositoryName, Tag},
};

/// A normalised image reference: the host is explicit and lower case, Docker's short names are expanded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Host, with its port if one was written.
    pub host: String,
    /// Repository within the host.
    pub repository: RepositoryName,
    /// Tag, if one was written; neither a tag nor a digest means `latest`, filled in.
    pub tag: Option<Tag>,
    /// Digest, if one was written. It decides; a tag beside it is decoration.
    pub digest: Option<Digest>,
}

/// A text that names no image; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image reference {reference:?} is malformed: {cause}")]
pub struct InvalidImageReference {
    reference: String,
    cause: String,
}

/// The longest reference that is accepted, in bytes.
const MAX_REFERENCE: usize = 1024;

impl ImageReference {
    /// `host/repository`: what a policy's image patterns are matched against.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The same image by digest alone.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for ImageReference {
    type Err = InvalidImageReference;

    fn from_str(text: &str) -> Result<Self, InvalidImageReference> {
        let invalid = |cause: String| InvalidImageReference { reference: short(text), cause };
        if text.len() > MAX_REFERENCE {
            return Err(invalid(format!("it is longer than {MAX_REFERENCE} bytes")));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid(
                "64 hex digits are an image ID, which no registry serves; name the image".into(),
            ));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|e| invalid(e.to_string()))?))
            }
            None => (text, None),
        };
        // A colon belongs to a tag only after the last slash; before it, it separates a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => {
                (name, Some(tag.parse::<Tag>().map_err(|e| invalid(e.to_string()))?))
            }
            _ => (rest, None),
        };
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (normalise_host(first), rest.to_owned()),
            Some(_) => ("docker.io".to_owned(), name.to_owned()),
            None => ("docker.io".to_owned(), format!("library/{name}")),
        };
        if !valid_host(&host) {
            return Err(invalid(format!("{:?} is no host name", short(&host))));
        }
        let repository = if host == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let repository: RepositoryName =
            repository.parse().map_err(|e: crate::name::InvalidName| invalid(e.to_string()))?;
        let tag = match (tag, &digest) {
            (None, None) => {
                Some("latest".parse().map_err(|e: crate::name::InvalidName| invalid(e.to_string()))?)
            }
            (tag, _) => tag,
        };
        Ok(Self { host, repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The host that answers for the images of a host: Docker's have another one.
pub fn server(host: &str) -> &str {
    if host == "docker.io" { "registry-1.docker.io" } else { host }
}

/// The first component is a host if it could not be the first component of a repository.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Lower case, and without the port that `https` has anyway, unless only the port tells that it is a host.
fn normalise_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.strip_suffix(":443").unwrap_or(&host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        name if is_host(name) => name.to_owned(),
        name => format!("{name}:443"),
    }
}

fn valid_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(']') || host.starts_with('[') => (name, Some(port)),
        _ => (host, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let name_ok = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    // A second spelling of a port would be a way around patterns.
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    name_ok && port_ok && host.len() <= 253
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[rstest]
    #[case("alpine", "docker.io/library/alpine:latest")]
    #[case("team/app:1", "docker.io/team/app:1")]
    #[case("docker.io/alpine", "docker.io/library/alpine:latest")]
    #[case("index.docker.io/alpine", "docker.io/library/alpine:latest")]
    #[case("h:5000/a", "h:5000/a:latest")]
    #[case("h:5000/a:v1", "h:5000/a:v1")]
    #[case("localhost/a", "localhost/a:latest")]
    #[case("REGISTRY.Example.com/a:V", "registry.example.com/a:V")]
    #[case("registry.example.com:443/a:v", "registry.example.com/a:v")]
    #[case("[::1]:5000/a:v", "[::1]:5000/a:v")]
    #[case("index.docker.io:443/alpine", "docker.io/library/alpine:latest")]
    #[case("docker.io:443/alpine", "docker.io/library/alpine:latest")]
    #[case("h:443/a", "h:443/a:latest")]
    #[case("Team/app", "team:443/app:latest")]
    fn normalises(#[case] text: &str, #[case] normal: &str) {
        let image: ImageReference = text.parse().unwrap();
        assert_eq!(image.to_string(), normal);
        assert_eq!(normal.parse(), Ok(image));
    }

    #[test]
    fn names_of_the_greatest_length_are_names() {
        let longest = [format!("r.io/{}", "a".repeat(255)), format!("r.io/a:{}", "v".repeat(128))];
        for text in longest.iter().chain([&format!("{}.io/a", "h".repeat(63))]) {
            assert!(text.parse::<ImageReference>().is_ok(), "{text}");
        }
        let sha512 = format!("r.io/a@sha512:{}", "0".repeat(128));
        assert_eq!(sha512.parse::<ImageReference>().unwrap().to_string(), sha512);
    }

    #[test]
    fn a_digest_leaves_the_tag_as_decoration() {
        let image: ImageReference = format!("r.io/a:v@{D}").parse().unwrap();
        assert_eq!((image.tag.as_ref().map(Tag::as_str), image.digest.is_some()), (Some("v"), true));
        let image: ImageReference = format!("r.io/a@{D}").parse().unwrap();
        assert_eq!(image.tag, None);
    }

    #[rstest]
    #[case("")]
    #[case("a b")]
    #[case("a:")]
    #[case("a@")]
    #[case("a@sha256:1")]
    #[case("r.io/")]
    #[case("r.io/A")]
    #[case("r..io/a")]
    #[case("-r.io/a")]
    #[case("r.io:x/a")]
    #[case("r.io:99999/a")]
    #[case("r.io:0443/a")]
    #[case("r.io:+443/a")]
    #[case("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    #[case::unicode("r.io/ä:v")]
    #[case::unicode_host("rägistry.io/a")]
    #[case::unicode_tag("r.io/a:ä")]
    #[case::letters_that_look_alike("r.io/\u{430}pp:v")]
    #[case::slash_that_looks_alike("r.io\u{2215}a:v")]
    #[case::digits_that_look_alike("r.io/a:\u{ff11}")]
    #[case::zero_width("r.io/a\u{200b}pp")]
    #[case::long_repository(&format!("r.io/{}", "a".repeat(256)))]
    #[case::long_tag(&format!("r.io/a:{}", "v".repeat(129)))]
    #[case::long_label(&format!("{}.io/a", "h".repeat(64)))]
    #[case::long_host(&format!("{}io/a", "h.".repeat(126)))]
    #[case::long_text(&format!("r.io/{}a", "a/".repeat(512)))]
    #[case::two_digests(&format!("r.io/a@{D}@{D}"))]
    #[case::upper_case_digest(&format!("r.io/a@{}", D.to_uppercase()))]
    #[case::short_sha512("r.io/a@sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
    }
}
