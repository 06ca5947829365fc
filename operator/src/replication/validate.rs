//! Second verb: whether the plan can be carried out in this world. What it cannot do without is named, so that the
//! person who reads the condition knows what to make.

use std::collections::BTreeMap;

use berth_operator_core::{
    conditions::State,
    replication::{InvalidField, Plan, Side},
};

use crate::replication::fetch::World;

/// Why no pass can begin. All of these heal by themselves when the cause does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(
        "the object cannot be read: {0}; correct it with kubectl edit, or install the CRDs of this version; no pass \
         begins until then"
    )]
    Unreadable(String),
    #[error(transparent)]
    Spec(#[from] InvalidField),
    #[error(
        "the operator does not work in the namespace {0}: add it to the chart's value `namespaces`, or set `allNamespaces`"
    )]
    NamespaceNotManaged(String),
    #[error("spec.{side}.registry: there is no Registry {name} in this namespace")]
    RegistryNotFound { side: &'static str, name: String },
    #[error("{path}: the Secret {name} does not exist in this namespace")]
    SecretNotFound { path: String, name: String },
    #[error("{path}: the Secret {name} has no key {key}")]
    SecretKeyMissing { path: String, name: String, key: &'static str },
}

impl Obstacle {
    /// Stable name for the condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Spec(_) => "SpecInvalid",
            Self::NamespaceNotManaged(_) => "NamespaceNotManaged",
            Self::RegistryNotFound { .. } => "RegistryNotFound",
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::SecretKeyMissing { .. } => "SecretKeyMissing",
        }
    }

    /// The state of a policy that it is in the way of.
    pub(super) fn state(&self) -> State {
        State::Stalled { reason: self.reason().to_owned(), message: self.to_string() }
    }
}

/// Says what is in the way, if anything is.
pub(super) fn validate(plan: &Plan, world: &World) -> Result<(), Obstacle> {
    side("source", &plan.source, world)?;
    side("destination", &plan.destination, world)
}

fn side(name: &'static str, side: &Side, world: &World) -> Result<(), Obstacle> {
    match side {
        Side::Registry(registry) if matches!(world.registries.get(registry), Some(Some(_))) => Ok(()),
        Side::Registry(registry) => Err(Obstacle::RegistryNotFound { side: name, name: registry.clone() }),
        Side::Url { credentials, ca } => {
            secret(
                format!("spec.{name}.credentials"),
                credentials.as_ref(),
                &["username", "password"],
                &world.secrets,
            )?;
            secret(format!("spec.{name}.ca"), ca.secret(), &["ca.crt"], &world.secrets)
        }
    }
}

fn secret(
    path: String,
    name: Option<&String>,
    keys: &[&'static str],
    secrets: &BTreeMap<String, Option<Vec<String>>>,
) -> Result<(), Obstacle> {
    let Some(name) = name else { return Ok(()) };
    let Some(Some(found)) = secrets.get(name) else {
        return Err(Obstacle::SecretNotFound { path, name: name.clone() });
    };
    match keys.iter().find(|key| !found.iter().any(|found| found == *key)) {
        Some(key) => Err(Obstacle::SecretKeyMissing { path, name: name.clone(), key }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::fetch::Readiness;
    use rstest::rstest;
    use serde_json::json;

    fn plan() -> Plan {
        let spec = json!({
            "source": {"registry": "a"},
            "destination": {"url": "https://r.example.com", "credentials": {"secretName": "login"}, "ca": {"secretName": "ca"}},
        });
        Plan::new("team-a", &serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn world(registry: bool, login: Option<&[&str]>, ca: Option<&[&str]>) -> World {
        let keys =
            |keys: Option<&[&str]>| keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
        World {
            passes: Vec::new(),
            secrets: [("login".to_owned(), keys(login)), ("ca".to_owned(), keys(ca))].into(),
            registries: [("a".to_owned(), registry.then_some(Readiness::NotReady))].into(),
        }
    }

    const LOGIN: Option<&[&str]> = Some(&["password", "username"]);
    const CA: Option<&[&str]> = Some(&["ca.crt"]);

    #[rstest]
    #[case::all_there(world(true, LOGIN, CA), None)]
    #[case::no_registry(world(false, LOGIN, CA), Some("RegistryNotFound"))]
    #[case::no_login(world(true, None, CA), Some("SecretNotFound"))]
    #[case::half_a_login(world(true, Some(&["username"]), CA), Some("SecretKeyMissing"))]
    #[case::no_ca(world(true, LOGIN, None), Some("SecretNotFound"))]
    #[case::empty_ca(world(true, LOGIN, Some(&[])), Some("SecretKeyMissing"))]
    fn what_is_in_the_way(#[case] world: World, #[case] reason: Option<&str>) {
        let result = validate(&plan(), &world);
        assert_eq!(result.as_ref().err().map(Obstacle::reason), reason);
        if let Err(obstacle) = result {
            let message = obstacle.to_string();
            let path = message.split(':').next().unwrap();
            insta::assert_snapshot!(format!("{}_{path}", obstacle.reason()), message);
        }
    }
}
