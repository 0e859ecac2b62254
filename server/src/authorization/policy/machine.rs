//! The register machine of each thread.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use regorus::{
    Value,
    rvm::{
        program::Program,
        vm::{RegoVM, VmError},
    },
    utils::limits::ExecutionTimerConfig,
};

use super::{
    CompiledRule, Policy,
    error::{EvaluationError, RuleLocation, reason_of},
    input::InputNames,
    meter,
};

/// Maximum number of instructions of an evaluation.
const MAX_INSTRUCTIONS: usize = 1_000_000;

/// Number of instructions between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// A [register machine](RegoVM) with a [`Policy`] in it.
struct Machine {
    /// The [`Policy::generation`] that it is for.
    generation: u64,
    vm: RegoVM,
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
            .and_then(|input| execute(policy, &policy.allow, &mut machine.vm, input));
        // After a panic, the machine is in an unknown state.
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
pub(super) fn evaluate_rule(
    policy: &Policy,
    rule: &CompiledRule,
) -> Result<Value, EvaluationError> {
    let mut vm = new_vm(policy, rule, policy.data.clone())?;
    execute(policy, rule, &mut vm, Value::Undefined)
}

impl Machine {
    fn new(policy: &Policy) -> Result<Self, EvaluationError> {
        let CompiledRule { compiled, program } = &policy.allow;
        let mut program = Program::clone(program);
        program.literals.iter_mut().for_each(|literal| *literal = own_copy(literal));
        let rule = CompiledRule { compiled: compiled.clone(), program: Arc::new(program) };
        let vm = new_vm(policy, &rule, own_copy(&policy.data))?;
        Ok(Self { generation: policy.generation, vm, names: InputNames::default() })
    }
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

fn new_vm(policy: &Policy, rule: &CompiledRule, data: Value) -> Result<RegoVM, EvaluationError> {
    let mut vm = RegoVM::new_with_policy(rule.compiled.clone());
    vm.load_program(rule.program.clone());
    vm.set_max_instructions(MAX_INSTRUCTIONS);
    let (limit, check_interval) = (policy.max_time, CHECK_INTERVAL);
    vm.set_execution_timer_config(Some(ExecutionTimerConfig { limit, check_interval }));
    vm.set_data(data).map_err(|error| EvaluationError::before(reason_of(&error, limit)))?;
    Ok(vm)
}

/// Reason of an [`EvaluationError`] after a panic.
const PANICKED: &str = "the policy engine failed unexpectedly";

fn execute(
    policy: &Policy,
    rule: &CompiledRule,
    vm: &mut RegoVM,
    input: Value,
) -> Result<Value, EvaluationError> {
    vm.set_input(input);
    meter::start(policy.max_time);
    let result = catch_unwind(AssertUnwindSafe(|| vm.execute()));
    let failed = |reason: String| EvaluationError {
        reason,
        location: Some(location(&rule.program, vm.get_pc())),
    };
    let result = match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(reason(&error, policy))),
        Err(_panic) => Err(failed(PANICKED.into())),
    };
    vm.set_input(Value::Undefined);
    result
}

fn reason(error: &VmError, policy: &Policy) -> String {
    reason_of(error, policy.max_time)
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
