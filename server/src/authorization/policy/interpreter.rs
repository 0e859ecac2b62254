//! The interpreter of each thread.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use super::{
    ALLOW, Policy,
    error::{EvaluationError, RuleLocation, reason_of},
    input::InputNames,
    meter,
};

/// Number of steps between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// An interpreter with a [`Policy`] in it.
struct PolicyInterpreter {
    /// The [`Policy::generation`] that it is for.
    generation: u64,
    engine: Engine,
    names: InputNames,
}

thread_local! {
    static INTERPRETER: RefCell<Option<PolicyInterpreter>> = const { RefCell::new(None) };
}

/// Evaluates the rule `allow` with the input that `input` returns.
///
/// # Errors
/// The input is too large, or the evaluation failed.
pub(super) fn evaluate(
    policy: &Policy,
    input: impl FnOnce(&InputNames) -> Result<Value, EvaluationError>,
) -> Result<Value, EvaluationError> {
    INTERPRETER.with_borrow_mut(|slot| {
        let current = slot.take().filter(|interpreter| interpreter.generation == policy.generation);
        let mut interpreter = match current {
            Some(interpreter) => interpreter,
            None => PolicyInterpreter::new(policy)?,
        };
        let result = input(&interpreter.names)
            .and_then(|input| execute(policy, &policy.rule, &mut interpreter.engine, input));
        // After a panic, the interpreter is in an unknown state.
        if !matches!(&result, Err(error) if error.reason == PANICKED) {
            *slot = Some(interpreter);
        }
        result
    })
}

/// Evaluates a rule without an input.
///
/// # Errors
/// The evaluation failed.
pub(super) fn evaluate_rule(policy: &Policy, rule: &str) -> Result<Value, EvaluationError> {
    let mut engine = new_engine(policy)?;
    execute(policy, rule, &mut engine, Value::Undefined)
}

impl PolicyInterpreter {
    fn new(policy: &Policy) -> Result<Self, EvaluationError> {
        let engine = new_engine(policy)?;
        Ok(Self { generation: policy.generation, engine, names: InputNames::default() })
    }
}

/// Copies the interpreter of a [`Policy`] for this thread, with data of its own.
fn new_engine(policy: &Policy) -> Result<Engine, EvaluationError> {
    let mut engine = policy.engine.clone();
    let (limit, check_interval) = (policy.max_time, CHECK_INTERVAL);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval });
    engine.clear_data();
    let added = engine.add_data(own_copy(&policy.data));
    added.map_err(|_| EvaluationError::before("a rule conflicts with the data"))?;
    Ok(engine)
}

/// Copies a [`Value`], so that its reference counts are those of one thread. Shared ones would move
/// between cores with each access.
fn own_copy(value: &Value) -> Value {
    match value {
        Value::String(text) => (**text).into(),
        Value::Array(values) => values.iter().map(own_copy).collect::<Vec<_>>().into(),
        Value::Set(values) => values.iter().map(own_copy).collect::<BTreeSet<_>>().into(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (own_copy(name), own_copy(value)));
            members.collect::<BTreeMap<_, _>>().into()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => value.clone(),
    }
}

/// Reason of an [`EvaluationError`] after a panic.
const PANICKED: &str = "the policy engine failed unexpectedly";

fn execute(
    policy: &Policy,
    rule: &str,
    engine: &mut Engine,
    input: Value,
) -> Result<Value, EvaluationError> {
    engine.set_input(input);
    meter::start(policy.max_time);
    let result = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(rule.to_owned())));
    engine.set_input(Value::Undefined);
    // They would be kept until the next policy.
    let _dropped = engine.take_prints();
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let report = error.to_string();
            let location = Some(policy.location_of(&report));
            Err(EvaluationError { reason: reason_of(&report, policy.max_time), location })
        }
        Err(_panic) => {
            let place = policy.path().to_owned();
            let location = Some(RuleLocation { rule: ALLOW.into(), place });
            Err(EvaluationError { reason: PANICKED.into(), location })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prints_are_dropped_after_each_evaluation() {
        let rule = "package policy\nallow if true";
        let mut policy = Policy::compile("p.rego".as_ref(), rule, &json!({})).unwrap();
        let printing = "package policy\nallow if print(\"x\")";
        policy.engine.add_policy("q.rego".into(), printing.into()).unwrap();
        assert!(policy.allows_document(&json!({})).unwrap());
        let prints = INTERPRETER.with_borrow_mut(|slot| {
            let interpreter = slot.as_mut().unwrap();
            interpreter.engine.take_prints().unwrap()
        });
        assert_eq!(prints, Vec::<String>::new());
    }
}
