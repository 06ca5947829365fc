//! What a policy binds: objects and namespaces by their labels. What Kubernetes would refuse is an error here and not a
//! policy that silently binds nothing.

use berth_crds::{Operator, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    image_policy::{InvalidPolicy, invalid::spec},
    labels,
};

/// A selector as the webhook configuration takes it; `path` is the field that writes it. One label that Kubernetes does
/// not take would keep the whole configuration, every other policy's entry with it, from being written.
pub fn selector(path: &str, selector: &Selector) -> Result<LabelSelector, InvalidPolicy> {
    let label = |path: String, key: &str, values: &[String]| {
        if !labels::is_key(key) {
            return Err(spec(path, format!("{key:?} is no key of a label, so nothing is selected")));
        }
        match values.iter().find(|value| !labels::is_value(value)) {
            Some(value) => {
                Err(spec(path, format!("{value:?} is no value of a label, so nothing is selected")))
            }
            None => Ok(()),
        }
    };
    for (key, value) in &selector.match_labels {
        label(format!("{path}.matchLabels"), key, std::slice::from_ref(value))?;
    }
    for (index, expression) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        label(path.clone(), &expression.key, &expression.values)?;
        if matches!(expression.operator, Operator::In | Operator::NotIn) == expression.values.is_empty() {
            return Err(spec(path, "In and NotIn take values, Exists and DoesNotExist take none"));
        }
    }
    Ok(selector.into())
}
