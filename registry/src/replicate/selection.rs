//! Which repositories and tags a pass speaks about, and what they are called at the destination.

use berth_registry_core::{Pattern, RepositoryName, Tag, config::ReplicateConfig};

/// The selection of a configuration.
pub(super) struct Selected<'a> {
    config: &'a ReplicateConfig,
    /// Both sides are the same registry: what lies under the prefix was written by us.
    own: Option<&'a str>,
}

impl<'a> Selected<'a> {
    pub(super) fn new(config: &'a ReplicateConfig) -> Self {
        let same = config.source.url.trim_end_matches('/') == config.destination.url.trim_end_matches('/');
        Self { config, own: config.prefix.as_deref().filter(|_| same) }
    }

    /// The repositories by name, if every pattern is a name. Registries without a catalog can be read this way.
    pub(super) fn named_repositories(&self) -> Option<Vec<RepositoryName>> {
        let select = &self.config.select;
        if select.is_empty() || select.iter().any(|selection| selection.repositories.is_empty()) {
            return None;
        }
        let patterns = select.iter().flat_map(|selection| &selection.repositories);
        let mut names: Vec<RepositoryName> =
            patterns.map(|pattern| pattern.as_str().parse().ok()).collect::<Option<_>>()?;
        names.sort();
        names.dedup();
        Some(names)
    }

    /// Whether any image of a repository may be selected.
    pub(super) fn repository(&self, name: &RepositoryName) -> bool {
        let own = self.own.is_some_and(|prefix| name.as_str().starts_with(prefix));
        let select = &self.config.select;
        !own && (select.is_empty() || select.iter().any(|s| any(&s.repositories, name.as_str())))
    }

    /// Whether an image is selected.
    pub(super) fn tag(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let select = &self.config.select;
        select.is_empty()
            || select.iter().any(|s| any(&s.repositories, name.as_str()) && any(&s.tags, tag.as_str()))
    }

    /// A repository's name at the destination.
    pub(super) fn destination(&self, name: &RepositoryName) -> Result<RepositoryName, String> {
        let prefix = self.config.prefix.as_deref().unwrap_or_default();
        format!("{prefix}{name}").parse().map_err(|e| format!("with the prefix {prefix:?}: {e}"))
    }
}

/// Whether any pattern matches; no pattern means everything.
fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn config(yaml: &str) -> ReplicateConfig {
        let sides = "source: {url: 'https://a'}\ndestination: {url: 'https://b'}\n";
        serde_yaml::from_str(&format!("{sides}{yaml}")).unwrap()
    }

    #[rstest]
    #[case("", "a", "v", true)]
    #[case("select: [{repositories: [app/*]}]", "app/x", "v", true)]
    #[case("select: [{repositories: [app/*]}]", "app/x/y", "v", false)]
    #[case("select: [{tags: [v*]}]", "anything", "v1", true)]
    #[case("select: [{tags: [v*]}]", "anything", "latest", false)]
    #[case("select: [{repositories: [a], tags: [v*]}, {repositories: [b]}]", "a", "latest", false)]
    #[case("select: [{repositories: [a], tags: [v*]}, {repositories: [b]}]", "b", "latest", true)]
    fn an_image_needs_one_selection(
        #[case] yaml: &str,
        #[case] name: &str,
        #[case] tag: &str,
        #[case] selected: bool,
    ) {
        let config = config(yaml);
        assert_eq!(Selected::new(&config).tag(&name.parse().unwrap(), &tag.parse().unwrap()), selected);
    }

    #[rstest]
    #[case("", None)]
    #[case("select: [{repositories: [b, a/x, b]}]", Some(vec!["a/x", "b"]))]
    #[case("select: [{repositories: [b]}, {tags: [v*]}]", None)]
    #[case("select: [{repositories: ['b*']}]", None)]
    fn names_need_no_catalog(#[case] yaml: &str, #[case] names: Option<Vec<&str>>) {
        let config = config(yaml);
        let found = Selected::new(&config).named_repositories();
        assert_eq!(found, names.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()));
    }

    #[test]
    fn a_mirror_of_itself_does_not_mirror_the_mirror() {
        let mut config = config("prefix: mirror/");
        let (own, other) = ("mirror/a".parse().unwrap(), "a".parse().unwrap());
        assert!(Selected::new(&config).repository(&own));
        config.destination.url = "https://a/".into();
        let selected = Selected::new(&config);
        assert!(!selected.repository(&own) && selected.repository(&other));
        assert_eq!(selected.destination(&other).unwrap().as_str(), "mirror/a");
        config.prefix = Some("Mirror/".into());
        assert!(Selected::new(&config).destination(&other).unwrap_err().contains("Mirror/"));
    }
}
