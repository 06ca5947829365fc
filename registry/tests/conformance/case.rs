//! What a case is, and how a table of cases is run against one registry and reported.

use std::collections::BTreeMap;
use std::fmt;

use futures::StreamExt;
use futures::future::BoxFuture;

use crate::support::http::{Outcome, Target};

/// The workflow categories of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Category {
    Pull,
    Push,
    Discovery,
    Management,
}

/// Who must pass a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every registry: distribution-spec 1.1 says so, or names one of few answers.
    Spec,
    /// Our own server: Berth promises more than the specification asks for.
    Berth,
    /// Our own server with [`EXTRAS`].
    Extra,
}

/// What a server must be told, one flag and value a line, to pass the cases of [`Scope::Extra`].
pub(crate) const EXTRAS: &str = "--sparse-manifests\n--immutable-tags=fixed-*";

/// One expectation about a registry.
pub(crate) struct Case {
    /// `file/function`.
    pub(crate) name: &'static str,
    pub(crate) category: Category,
    pub(crate) scope: Scope,
    /// The row of the requirements that the case shows.
    pub(crate) requirement: &'static str,
    pub(crate) run: for<'a> fn(&'a Target) -> BoxFuture<'a, Outcome>,
}

/// Declares `CASES`, the table of a file: who must pass, requirement, function.
macro_rules! cases {
    ($file:ident, $category:ident: $($scope:ident $requirement:literal $function:ident,)+) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: concat!(stringify!($file), "/", stringify!($function)),
            category: $crate::case::Category::$category,
            scope: $crate::case::Scope::$scope,
            requirement: $requirement,
            run: |target| Box::pin($function(target)),
        }),+];
    };
}
pub(crate) use cases;

/// What came of the cases of a run, by name: `None` is a pass.
pub(crate) struct Report {
    registry: String,
    results: BTreeMap<&'static str, (&'static Case, Option<String>)>,
}

/// Runs cases, several at once: they share nothing but the registry.
/// `BERTH_CONFORMANCE_CASE=text` keeps those whose name contains the text.
pub(crate) async fn run(
    registry: &str,
    target: &Target,
    cases: impl Iterator<Item = &'static Case>,
) -> Report {
    let wanted = std::env::var("BERTH_CONFORMANCE_CASE").unwrap_or_default();
    let results = futures::stream::iter(cases.filter(|case| case.name.contains(&wanted)))
        .map(|case| async move { (case.name, (case, (case.run)(target).await.err().map(|f| f.to_string()))) })
        .buffer_unordered(8)
        .collect()
        .await;
    Report { registry: registry.into(), results }
}

impl Report {
    /// Every case must hold, but for the named ones, which must fail: a deviation that is gone is to
    /// be struck off the list. Prints the table.
    pub(crate) fn check(&self, deviations: &[(&str, &str)]) {
        println!("{self}");
        let deviates = |name: &str| deviations.iter().any(|(case, _)| *case == name);
        let wrong: Vec<_> = self
            .results
            .iter()
            .filter(|(name, (_, failure))| failure.is_some() != deviates(name))
            .map(|(name, (_, failure))| {
                format!("{name}: {}", failure.as_deref().unwrap_or("passes, but is listed as a deviation"))
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{}: {} of {} cases:\n{}",
            self.registry,
            wrong.len(),
            self.results.len(),
            wrong.join("\n")
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_category: BTreeMap<Category, (usize, usize)> = BTreeMap::new();
        for (name, (case, failure)) in &self.results {
            let verdict = if failure.is_some() { "FAIL" } else { "ok" };
            writeln!(f, "{verdict:4} {:8} {name}", case.requirement)?;
            let (passed, all) = by_category.entry(case.category).or_default();
            *passed += usize::from(failure.is_none());
            *all += 1;
        }
        write!(f, "{}:", self.registry)?;
        for (category, (passed, all)) in by_category {
            write!(f, " {category:?} {passed}/{all}")?;
        }
        Ok(())
    }
}
