//! The interpreter of each thread.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

use regorus::{Engine, Value, rvm::program::Program, utils::limits::ExecutionTimerConfig};

use super::{
    ALLOW, Policy,
    error::{EvaluationError, RuleLocation, reason_of},
    input::InputNames,
    meter,
};

/// Number of steps between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// An interpreter with a [`Policy`] in it.
struct Machine {
    /// The [`Policy::generation`] that it is for.
    generation: u64,
    engine: Engine,
    names: InputNames,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// Evaluates the rule `allow` with the input that `input` returns.
///
/// # Errors
/// The input is too large, or the evaluation failed.
pub(super) fn evaluate(
    policy: &Policy,
    input: impl FnOnce(&InputNames) -> Result<Value, EvaluationError>,
) -> Result<Value, EvaluationError> {
    MACHINE.with_borrow_mut(|slot| {
        let current = slot.take().filter(|machine| machine.generation == policy.generation);
        let mut machine = match current {
            Some(machine) => machine,
            None => Machine::new(policy)?,
        };
        let result = input(&machine.names)
            .and_then(|input| execute(policy, &policy.rule, &mut machine.engine, input));
        // After a panic, the interpreter is in an unknown state.
        if !matches!(&result, Err(error) if error.reason == PANICKED) {
            *slot = Some(machine);
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

impl Machine {
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

/// Returns the rule and the place of an instruction of a [`Program`].
pub(super) fn location(program: &Program, pc: usize) -> RuleLocation {
    let bodies = program.rule_infos.iter().flat_map(|rule| {
        let starts = rule.definitions.iter().flatten();
        starts.map(move |start| (*start as usize, rule.name.as_str()))
    });
    let rule = bodies.filter(|(start, _)| *start <= pc).max().map_or("allow", |(_, rule)| rule);
    let span = program.instruction_spans.get(pc).and_then(Option::as_ref);
    let place = span.and_then(|span| {
        let file = span.get_source_name(&program.sources)?;
        Some(format!("{file}:{}:{}", span.line, span.column))
    });
    RuleLocation { rule: rule.into(), place: place.unwrap_or_else(|| "the policy".into()) }
}
