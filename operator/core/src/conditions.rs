//! Conditions as kubectl wait, Argo CD and Flux read them (kstatus): `Ready` always, `Reconciling` and `Stalled` only
//! while true. The transition time changes only when the status does, so an unchanged state is an unchanged object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What an object is, in one word, with what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is as its spec says.
    Ready {
        /// A stable word in `PascalCase`.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It is on its way; nobody has to do anything.
    Progressing {
        /// A stable word in `PascalCase`.
        reason: String,
        /// For people.
        message: String,
    },
    /// It will not get further until somebody changes something.
    Stalled {
        /// A stable word in `PascalCase`.
        reason: String,
        /// What is wrong and how it is cured.
        message: String,
    },
}

impl State {
    /// The reason of `Ready`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready { reason, .. } => reason,
            Self::Progressing { reason, .. } | Self::Stalled { reason, .. } => reason,
        }
    }

    /// The message of `Ready`.
    pub fn message(&self) -> &str {
        match self {
            Self::Ready { message, .. }
            | Self::Progressing { message, .. }
            | Self::Stalled { message, .. } => message,
        }
    }

    /// The conditions that say so. `before` are those in the status now; conditions of other types in it are kept.
    pub fn conditions(&self, generation: Option<i64>, before: &[Condition], now: &Time) -> Vec<Condition> {
        let condition = |type_: &str, status: bool| {
            let status = if status { "True" } else { "False" };
            let unchanged = before.iter().find(|old| old.type_ == type_ && old.status == status);
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: self.reason().to_owned(),
                message: self.message().chars().take(1024).collect(),
                observed_generation: generation,
                last_transition_time: unchanged.map_or(now, |old| &old.last_transition_time).clone(),
            }
        };
        let mut conditions = vec![condition("Ready", matches!(self, Self::Ready { .. }))];
        match self {
            Self::Ready { .. } => {}
            Self::Progressing { .. } => conditions.push(condition("Reconciling", true)),
            Self::Stalled { .. } => conditions.push(condition("Stalled", true)),
        }
        let ours = ["Ready", "Reconciling", "Stalled"];
        conditions.extend(before.iter().filter(|old| !ours.contains(&old.type_.as_str())).cloned());
        conditions
    }
}

/// The condition `Ready`, if there is one.
pub fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: &str) -> Time {
        Time(format!("2030-01-01T00:00:{second}Z").parse().unwrap())
    }

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect()
    }

    #[test]
    fn reconciling_and_stalled_exist_only_while_true() {
        let progressing = State::Progressing { reason: "RollingOut".into(), message: "0 of 1".into() };
        let first = progressing.conditions(Some(1), &[], &at("00"));
        assert_eq!(types(&first), [("Ready", "False"), ("Reconciling", "True")]);
        let stalled = State::Stalled { reason: "SecretNotFound".into(), message: "create it".into() };
        let second = stalled.conditions(Some(1), &first, &at("10"));
        assert_eq!(types(&second), [("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(second[0].last_transition_time, at("00"), "Ready was False before");
        let ready = State::Ready { reason: "Available", message: String::new() };
        let third = ready.conditions(Some(2), &second, &at("20"));
        assert_eq!(types(&third), [("Ready", "True")]);
        assert_eq!(
            (third[0].last_transition_time.clone(), third[0].observed_generation),
            (at("20"), Some(2))
        );
    }

    #[test]
    fn an_unchanged_state_is_an_unchanged_object() {
        let state = State::Ready { reason: "Available", message: "2 of 2".into() };
        let first = state.conditions(Some(1), &[], &at("00"));
        assert_eq!(state.conditions(Some(1), &first, &at("30")), first);
    }

    #[test]
    fn conditions_of_others_are_kept() {
        let other = Condition {
            type_: "Audited".into(),
            status: "True".into(),
            reason: "Yes".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: at("00"),
        };
        let state = State::Ready { reason: "Available", message: String::new() };
        assert_eq!(state.conditions(None, std::slice::from_ref(&other), &at("01"))[1], other);
    }
}
