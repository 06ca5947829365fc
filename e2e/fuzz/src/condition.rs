//! Conditions of tenants over predicates of whoever holds a key. Input: a condition, a predicate. How long one may take
//! is libFuzzer's `-timeout`.

use berth_trust::Condition;

pub(crate) fn run(mut input: &[u8]) {
    let (Some(text), Some(predicate)) = (crate::text(&mut input), crate::text(&mut input)) else { return };
    let Ok(condition) = Condition::compile(text).inspect_err(|error| assert!(error.to_string().len() < 2048))
    else {
        return;
    };
    assert_eq!(condition.as_str(), text);
    if let Err(why) = condition.holds("https://example.com/scan", predicate) {
        assert!(why.chars().count() < 200, "{why}");
    }
}
