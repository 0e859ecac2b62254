//! The depth of rule calls in a policy.
//!
//! The interpreter uses the stack of its thread for each rule that it enters, and bounds neither
//! the depth nor recursion through functions. A rule that depends on itself would end the process.
//! Therefore a policy with recursion, or with very deep calls, is refused when it is loaded. The
//! calls are those of its [`Program`], in which every name is resolved.

use std::collections::BTreeSet;

use regorus::{
    Value,
    rvm::{
        instructions::{Instruction, LiteralOrRegister, VirtualDataDocumentLookupParams},
        program::{Program, RuleInfo},
    },
};

use super::error::{PolicyError, RECURSION_REMEDY};

/// Maximum depth of calls from `allow` to rules, to their rules, and so on.
const MAX_CALL_DEPTH: usize = 64;

/// A rule that may not be called.
pub(super) struct CallError {
    /// Its index in [`Program::rule_infos`].
    rule: usize,
    /// Whether it depends on itself. Otherwise it is at the end of more than [`MAX_CALL_DEPTH`]
    /// calls.
    is_recursion: bool,
}

impl CallError {
    /// Returns the error with the name and the place of the rule.
    pub(super) fn in_program(&self, program: &Program) -> PolicyError {
        let rule = program.rule_infos.get(self.rule);
        let name = rule.map_or("", |rule| &rule.name);
        let place = rule.and_then(|rule| place_of(program, rule));
        let place = place.unwrap_or_else(|| "the policy".into());
        if self.is_recursion {
            PolicyError::new(place, format!("the rule {name} depends on itself"))
                .help(RECURSION_REMEDY)
        } else {
            PolicyError::new(place, format!("too many nested calls of rules at {name}"))
                .help("let rules depend on one another through fewer levels")
        }
    }
}

/// Returns the place of a rule: `FILE:LINE:COLUMN`.
fn place_of(program: &Program, rule: &RuleInfo) -> Option<String> {
    let start = *rule.definitions.first()?.first()?;
    // The first instruction of a rule has no place of its own.
    let span = program.instruction_spans.get(start as usize + 1)?.as_ref()?;
    let file = span.get_source_name(&program.sources)?;
    Some(format!("{file}:{}:{}", span.line, span.column))
}

/// Checks the depth of calls in a [`Program`].
///
/// # Errors
/// A rule depends on itself, or the calls are too deep.
pub(super) fn check(program: &Program) -> Result<(), CallError> {
    let callees = callees(program);
    let mut depths = vec![None; callees.len()];
    (0..callees.len()).try_for_each(|rule| {
        let depth = depth(&callees, &mut depths, rule, 0)?;
        let is_recursion = false;
        if depth > MAX_CALL_DEPTH { Err(CallError { rule, is_recursion }) } else { Ok(()) }
    })
}

/// Returns the rules that each rule calls.
fn callees(program: &Program) -> Vec<BTreeSet<usize>> {
    let mut callees = vec![BTreeSet::new(); program.rule_infos.len()];
    let mut caller = None;
    for instruction in &program.instructions {
        let called: Vec<usize> = match *instruction {
            Instruction::RuleInit { rule_index, .. } => {
                caller = Some(usize::from(rule_index));
                continue;
            }
            Instruction::CallRule { rule_index, .. } => vec![rule_index.into()],
            Instruction::FunctionCall { params_index } => program
                .instruction_data
                .get_function_call_params(params_index)
                .map(|params| params.func_rule_index.into())
                .into_iter()
                .collect(),
            Instruction::VirtualDataDocumentLookup { params_index } => program
                .instruction_data
                .get_virtual_data_document_lookup_params(params_index)
                .map(|params| rules_below(program, params))
                .unwrap_or_default(),
            _ => continue,
        };
        if let Some(caller) = caller {
            callees[caller].extend(called);
        }
    }
    callees
}

/// Returns the rules that a lookup such as `data.policy[input.x]` may call.
fn rules_below(program: &Program, lookup: &VirtualDataDocumentLookupParams) -> Vec<usize> {
    let literals = lookup.path_components.iter().map_while(|component| match component {
        LiteralOrRegister::Literal(index) => match program.literals.get(usize::from(*index)) {
            Some(Value::String(name)) => Some(&**name),
            _ => None,
        },
        LiteralOrRegister::Register(_) => None,
    });
    let prefix: Vec<&str> = literals.collect();
    let is_below = |info: &RuleInfo| {
        let path = info.name.strip_prefix("data.").unwrap_or(&info.name);
        let mut names = path.split('.').zip(&prefix);
        // A name that is not an identifier is written in brackets.
        path.contains('[') || names.all(|(one, other)| one == *other)
    };
    let rules = program.rule_infos.iter().enumerate();
    let documents = rules.filter(|(_, info)| info.function_info.is_none());
    documents.filter(|(_, info)| is_below(info)).map(|(index, _)| index).collect()
}

/// State of a rule in the depth-first search.
#[derive(Clone, Copy)]
enum RuleVisit {
    Entered,
    Done(usize),
}

/// Returns the number of calls below a rule, the rule included, at most [`MAX_CALL_DEPTH`] deep.
fn depth(
    callees: &[BTreeSet<usize>],
    visits: &mut [Option<RuleVisit>],
    rule: usize,
    above: usize,
) -> Result<usize, CallError> {
    match visits[rule] {
        Some(RuleVisit::Done(depth)) => return Ok(depth),
        Some(RuleVisit::Entered) => return Err(CallError { rule, is_recursion: true }),
        // Bounds the recursion of this function, too.
        None if above > MAX_CALL_DEPTH => return Err(CallError { rule, is_recursion: false }),
        None => visits[rule] = Some(RuleVisit::Entered),
    }
    let mut deepest = 0;
    for callee in &callees[rule] {
        deepest = deepest.max(depth(callees, visits, *callee, above + 1)?);
    }
    visits[rule] = Some(RuleVisit::Done(deepest + 1));
    Ok(deepest + 1)
}
