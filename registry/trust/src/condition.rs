//! Conditions over attestations, in CEL: `predicate.scanner.result.all(r, r.severity != "CRITICAL")`. Policies are
//! written by tenants and predicates by whoever holds a key, so both are bounded: what a condition may name is checked
//! when it is compiled, and how much it computes is counted while it runs. Objects have no order in CEL.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cel::{
    Context, ExecutionError, Value,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue},
    extractors::This,
    functions,
    objects::{Key, Map},
    parser::{Expression, Parser},
};
use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use crate::bounds::{MAX_REGEX, clip};

/// Bytes of a condition.
const MAX_TEXT: usize = 2048;
/// Loops within loops.
const MAX_NESTING: usize = 2;
/// Brackets within brackets.
const MAX_BRACKETS: u16 = 24;
/// Bytes, of which only those in use take memory.
const PARSER_STACK: usize = 256 << 20;
/// Levels of the parsed expression.
const MAX_LEVELS: usize = 64;
/// Turns of all loops together, times the bytes of the predicate, because one turn may look at all of it.
const BUDGET: usize = 1 << 33;
const MAX_TURNS: usize = 100_000;

const VARIABLES: [&str; 2] = ["predicate", "predicateType"];
const FUNCTIONS: [&str; 9] =
    ["contains", "double", "endsWith", "int", "matches", "size", "startsWith", "string", "uint"];
/// Counts the turns of loops. No condition can call it: it is no identifier.
const TURN: &str = "@turn";

/// A text that is no condition; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// Nobody reads such a condition.
    #[error("it has {0} bytes, at most {MAX_TEXT} are allowed: write several conditions")]
    TooLong(usize),
    /// Not CEL.
    #[error("it is no CEL expression: {0}")]
    Syntax(String),
    /// A name that means nothing.
    #[error("{0:?} is not known: a condition speaks about `predicate` and `predicateType`")]
    UnknownName(String),
    /// A function that there is not.
    #[error("there is no function {0:?}; there are {known}", known = FUNCTIONS.join(", "))]
    UnknownFunction(String),
    /// A regular expression that cannot be compiled, is too large, or is computed.
    #[error("matches takes one regular expression, written out, of moderate size: {0}")]
    Regex(String),
    /// It could run for ever.
    #[error("its loops are nested more than {MAX_NESTING} deep")]
    TooNested,
    /// It is too deep to be evaluated.
    #[error("it has more than {MAX_LEVELS} levels: write several conditions")]
    TooDeep,
}

/// One condition, compiled.
#[derive(Clone)]
pub struct Condition {
    text: Arc<str>,
    expression: Arc<Expression>,
    regexes: Regexes,
}

/// Compiled ahead, by their text.
type Regexes = Arc<BTreeMap<String, Regex>>;

impl Condition {
    /// Reads a condition.
    pub fn compile(text: &str) -> Result<Self, InvalidCondition> {
        if text.len() > MAX_TEXT {
            return Err(InvalidCondition::TooLong(text.len()));
        }
        // The parser takes some 90 KB of stack for each bracket, and a condition must not end the process.
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK);
        let compiled = std::thread::scope(|scope| {
            let thread = parser.spawn_scoped(scope, || Self::parse(text)).ok()?;
            thread.join().ok()
        });
        compiled.unwrap_or_else(|| Err(InvalidCondition::Syntax("the parser gave up".to_owned())))
    }

    fn parse(text: &str) -> Result<Self, InvalidCondition> {
        let parsed = Parser::new().max_recursion_depth(MAX_BRACKETS).parse(text);
        let mut expression = parsed.map_err(|error| {
            let error = error.to_string();
            InvalidCondition::Syntax(clip(error.lines().next().unwrap_or_default()))
        })?;
        let mut check = Check { scope: Vec::new(), regexes: BTreeMap::new() };
        check.walk(&mut expression, MAX_NESTING, MAX_LEVELS)?;
        Ok(Self { text: text.into(), expression: Arc::new(expression), regexes: Arc::new(check.regexes) })
    }

    /// The condition as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds for a predicate (JSON text). Anything but `true` or `false`, and every error, is an error, which
    /// means that it does not hold; the text says why.
    pub fn holds(&self, predicate_type: &str, predicate: &str) -> Result<bool, String> {
        let value = serde_json::from_str(predicate).map_err(|error| error.to_string())?;
        let mut context = Context::empty();
        context.add_variable_from_value("predicateType", predicate_type.to_owned());
        context.add_variable_from_value("predicate", cel_value(value));
        context.add_function("contains", functions::contains);
        context.add_function("double", functions::double);
        context.add_function("endsWith", functions::ends_with);
        context.add_function("int", functions::int);
        context.add_function("size", functions::size);
        context.add_function("startsWith", functions::starts_with);
        context.add_function("string", functions::string);
        context.add_function("uint", functions::uint);
        let regexes = Arc::clone(&self.regexes);
        context.add_function("matches", move |This(text): This<Arc<String>>, regex: Arc<String>| {
            regexes.get(regex.as_str()).is_some_and(|regex| regex.is_match(&text))
        });
        let turns = AtomicUsize::new((BUDGET / predicate.len().max(1)).min(MAX_TURNS));
        context.add_function(TURN, move |condition: bool| {
            let left = turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(|_| condition)
                .map_err(|_| ExecutionError::function_error(TURN, "its loops run too long"))
        });
        // The interpreter is not ours; a panic in it must not be one of the webhook's.
        let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(&self.expression, &context)));
        match result {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(other)) => Err(format!("it is no true or false but of type {:?}", other.type_of())),
            Ok(Err(error)) => Err(clip(&error.to_string())),
            Err(_) => Err("it cannot be evaluated".to_owned()),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Goes through an expression once: refuses what is not understood, and has each turn of a loop counted.
struct Check {
    /// Variables of the loops around.
    scope: Vec<String>,
    regexes: BTreeMap<String, Regex>,
}

impl Check {
    fn walk(&mut self, at: &mut Expression, loops: usize, levels: usize) -> Result<(), InvalidCondition> {
        let levels = levels.checked_sub(1).ok_or(InvalidCondition::TooDeep)?;
        match &mut at.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if VARIABLES.contains(&name.as_str()) || self.scope.contains(name) => Ok(()),
            Expr::Ident(name) => Err(InvalidCondition::UnknownName(clip(name))),
            Expr::Select(select) => self.walk(&mut select.operand, loops, levels),
            Expr::List(list) => list.elements.iter_mut().try_for_each(|it| self.walk(it, loops, levels)),
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.walk(&mut entry.key, loops, levels)?;
                    self.walk(&mut entry.value, loops, levels)
                }
                EntryExpr::StructField(field) => Err(InvalidCondition::UnknownName(clip(&field.field))),
            }),
            Expr::Struct(it) => Err(InvalidCondition::UnknownName(clip(&it.type_name))),
            Expr::Unspecified => Err(InvalidCondition::Syntax("it is empty".to_owned())),
            Expr::Call(call) => {
                self.call(call)?;
                let parts = call.target.as_deref_mut().into_iter().chain(&mut call.args);
                for part in parts {
                    self.walk(part, loops, levels)?;
                }
                Ok(())
            }
            Expr::Comprehension(it) => {
                self.walk(&mut it.iter_range, loops, levels)?;
                let loops = loops.checked_sub(1).ok_or(InvalidCondition::TooNested)?;
                let outer = self.scope.len();
                self.scope.extend([it.iter_var.clone(), it.accu_var.clone()]);
                self.scope.extend(it.iter_var2.clone());
                for part in [&mut it.accu_init, &mut it.loop_cond, &mut it.loop_step, &mut it.result] {
                    self.walk(part, loops, levels)?;
                }
                self.scope.truncate(outer);
                let args = vec![std::mem::take(&mut it.loop_cond)];
                let turn = CallExpr { func_name: TURN.to_owned(), target: None, args };
                it.loop_cond = Expression { id: it.loop_cond.id, expr: Expr::Call(turn) };
                Ok(())
            }
        }
    }

    /// Operators have names that no identifier has.
    fn call(&mut self, call: &CallExpr) -> Result<(), InvalidCondition> {
        let name = call.func_name.as_str();
        let operator = !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !operator && !FUNCTIONS.contains(&name) {
            return Err(InvalidCondition::UnknownFunction(clip(name)));
        }
        if name != "matches" {
            return Ok(());
        }
        let [Expression { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] = call.args.as_slice()
        else {
            return Err(InvalidCondition::Regex("it is computed".to_owned()));
        };
        let pattern = pattern.inner().to_owned();
        let regex = RegexBuilder::new(&pattern).size_limit(MAX_REGEX).build();
        let regex = regex.map_err(|error| InvalidCondition::Regex(clip(&error.to_string())))?;
        self.regexes.insert(pattern, regex);
        Ok(())
    }
}

fn cel_value(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(it),
        Json::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(it), _) => Value::Int(it),
            (None, Some(it)) => Value::UInt(it),
            (None, None) => Value::Float(it.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(it) => Value::String(Arc::new(it)),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(cel_value).collect())),
        Json::Object(members) => {
            let members = members.into_iter().map(|(key, it)| (Key::String(Arc::new(key)), cel_value(it)));
            Value::Map(Map { map: Arc::new(members.collect::<HashMap<_, _>>()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SCAN: &str = r#"{
        "scanner": {"uri": "trivy", "version": "0.74.0", "result": [{"id": "CVE-1", "severity": "LOW", "score": 3.1}, {"id": "CVE-2", "severity": "HIGH", "score": 8}]},
        "counts": {"critical": 0, "high": 1}, "big": 18446744073709551615, "ok": true, "nothing": null
    }"#;

    #[rstest]
    #[case("predicate.counts.critical == 0", Ok(true))]
    #[case("predicate.counts.critical > 0", Ok(false))]
    #[case("predicate.ok", Ok(true))]
    #[case("predicate.nothing == null", Ok(true))]
    #[case("predicate.big > 0u", Ok(true))]
    #[case("predicate.scanner.result.all(r, r.severity != 'CRITICAL')", Ok(true))]
    #[case("predicate.scanner.result.exists(r, r.score >= 7.0)", Ok(true))]
    #[case("predicate.scanner.result.filter(r, r.severity == 'HIGH').size() == 0", Ok(false))]
    #[case("predicate.scanner.result.map(r, r.id) == ['CVE-1', 'CVE-2']", Ok(true))]
    #[case("'CVE-2' in predicate.scanner.result.map(r, r.id)", Ok(true))]
    #[case("has(predicate.scanner.uri) && !has(predicate.scanner.db)", Ok(true))]
    #[case("predicate.scanner.version.matches('^0[.]7[0-9][.]')", Ok(true))]
    #[case("predicate.scanner['uri'].startsWith('tri')", Ok(true))]
    #[case("predicateType == 'https://example.com/scan'", Ok(true))]
    #[case("predicate.counts.exists(k, predicate.counts[k] > 0)", Ok(true))]
    #[case("predicate.counts.critical", Err("no true or false"))]
    #[case("predicate.missing == 1", Err("missing"))]
    #[case("predicate.ok > 1", Err(""))]
    #[case("predicate.counts.high / 0 == 1", Err(""))]
    #[case("predicate.missing || true", Ok(true))]
    fn what_holds(#[case] text: &str, #[case] expected: Result<bool, &str>) {
        let result = Condition::compile(text).unwrap().holds("https://example.com/scan", SCAN);
        match expected {
            Ok(expected) => assert_eq!(result, Ok(expected), "{text}"),
            Err(says) => assert!(result.as_ref().is_err_and(|why| why.contains(says)), "{text}: {result:?}"),
        }
    }

    #[rstest]
    #[case("", "Syntax")]
    #[case("predicate.", "Syntax")]
    #[case("predicate == ", "Syntax")]
    #[case("image == 1", "UnknownName")]
    #[case("predicates.x", "UnknownName")]
    #[case("predicate.all(x, y > 1)", "UnknownName")]
    #[case("predicate.all(x, true) && x == 1", "UnknownName")]
    #[case("now() > 1", "UnknownFunction")]
    #[case("predicate.x.evil()", "UnknownFunction")]
    #[case("Message{a: 1} == 1", "UnknownName")]
    #[case("predicate.x.matches('(')", "Regex")]
    #[case("predicate.x.matches(predicate.y)", "Regex")]
    #[case("predicate.x.matches('(a{1000}){1000}')", "Regex")]
    #[case("predicate.all(a, a.all(b, b.all(c, c == 1)))", "TooNested")]
    fn what_is_refused(#[case] text: &str, #[case] expected: &str) {
        let error = Condition::compile(text).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{text}: {error:?}");
    }

    #[test]
    fn two_levels_of_loops_beside_each_other_are_fine() {
        let text = "predicate.all(a, a.all(b, b > 0)) && predicate.all(a, a.all(b, b > 0))";
        assert_eq!(Condition::compile(text).unwrap().holds("", "[[1],[2]]"), Ok(true));
    }

    /// Whatever a tenant writes, it ends, and takes no more stack than a thread has.
    #[rstest]
    #[case("(", "1", ")", 900)]
    #[case("[", "1", "]", 900)]
    #[case("!", "true", "", 2000)]
    #[case("-", "1", "", 2000)]
    #[case("1+", "1", "", 1000)]
    #[case("predicate.", "a", "", 200)]
    #[case("true?1:", "1", "", 280)]
    #[case("true||", "true", "", 330)]
    #[case("", "predicate", ".a", 900)]
    #[case("", "predicate", "[0]", 600)]
    fn deep_expressions_are_refused(
        #[case] before: &str,
        #[case] middle: &str,
        #[case] after: &str,
        #[case] times: usize,
    ) {
        let text = format!("{}{middle}{}", before.repeat(times), after.repeat(times));
        if let Ok(condition) = Condition::compile(&text) {
            let _ = condition.holds("", "1");
        }
    }

    #[test]
    fn long_texts_and_long_loops_end() {
        let error = Condition::compile(&" ".repeat(MAX_TEXT + 1)).unwrap_err();
        assert_eq!(error, InvalidCondition::TooLong(MAX_TEXT + 1));
        let many = format!("[{}1]", "1,".repeat(2000));
        let quadratic = Condition::compile("predicate.all(a, predicate.all(b, a == b))").unwrap();
        let error = quadratic.holds("", &many).unwrap_err();
        assert!(error.contains("too long"), "{error}");
        assert_eq!(Condition::compile("predicate.all(a, a == 1)").unwrap().holds("", &many), Ok(true));
    }
}
