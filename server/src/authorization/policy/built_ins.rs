//! The built-in functions that policies may call. Functions that reach the network, read the
//! environment or return random numbers are not among them.
//!
//! The interpreter checks its limits between expressions. Input from a client can make a single call
//! take seconds or gigabytes, so calls whose result or time can exceed that of their arguments are
//! metered: they charge an upper bound to the [`meter`] before they run. The interpreter calls an
//! extension before a function of the library with the same name.

use regorus::{
    Extension, LimitError, Source, Value,
    unstable::{BUILTINS, BuiltinFcn, Expr, Ref, Span},
};

use super::{cost, meter};

/// A built-in function.
struct BuiltIn {
    name: &'static str,
    /// Whether its result depends on its arguments alone.
    is_pure: bool,
    /// The function that is called in its place and charges its cost first. `None` if it costs
    /// about as much as an instruction with the same values.
    metered: Option<BuiltinFcn>,
}

const fn free(name: &'static str) -> BuiltIn {
    BuiltIn { name, is_pure: true, metered: None }
}

const fn impure(name: &'static str) -> BuiltIn {
    BuiltIn { name, is_pure: false, metered: None }
}

/// A function whose calls are charged by `$cost`, which may also refuse arguments.
macro_rules! metered {
    ($name:literal, $cost:expr) => {
        BuiltIn {
            name: $name,
            is_pure: true,
            metered: Some((
                |span, params, args, strict| {
                    let Some(cost) = $cost(args) else {
                        return Err(span.error("an argument is out of range"));
                    };
                    meter::charge(cost)?;
                    (original($name).0)(span, params, args, strict)
                },
                0,
            )),
        }
    };
}

/// Returns the function of the library.
fn original(name: &'static str) -> &'static BuiltinFcn {
    // The table has functions of the library only, as a test ensures.
    &BUILTINS[name]
}

/// The functions that policies may call.
static BUILT_INS: &[BuiltIn] = &[
    // Numbers.
    free("abs"),
    free("ceil"),
    free("floor"),
    free("round"),
    metered!("numbers.range", cost::range),
    metered!("numbers.range_step", cost::range_step),
    free("bits.and"),
    metered!("bits.lsh", cost::left_shift),
    free("bits.negate"),
    free("bits.or"),
    free("bits.rsh"),
    free("bits.xor"),
    metered!("format_int", cost::format_int),
    metered!("to_number", cost::copy),
    metered!("units.parse", cost::number_text),
    metered!("units.parse_bytes", cost::number_text),
    // Collections.
    free("count"),
    free("max"),
    free("min"),
    metered!("product", cost::copy),
    metered!("sort", cost::copy),
    free("sum"),
    metered!("array.concat", cost::copy),
    metered!("array.reverse", cost::copy),
    metered!("array.slice", cost::copy),
    metered!("intersection", cost::copy),
    metered!("union", cost::copy),
    metered!("__builtin_sets.intersection", cost::copy),
    metered!("__builtin_sets.union", cost::copy),
    metered!("json.filter", cost::copy),
    metered!("json.remove", cost::copy),
    metered!("object.filter", cost::copy),
    free("object.get"),
    metered!("object.keys", cost::copy),
    metered!("object.remove", cost::copy),
    metered!("object.subset", cost::copy),
    metered!("object.union", cost::copy),
    metered!("object.union_n", cost::copy),
    // Text.
    metered!("concat", cost::concat),
    free("contains"),
    free("endswith"),
    free("indexof"),
    metered!("indexof_n", cost::parts),
    metered!("lower", cost::escaped),
    metered!("replace", cost::replace),
    metered!("split", cost::parts),
    metered!("sprintf", cost::sprintf),
    free("startswith"),
    metered!("strings.any_prefix_match", cost::pairs),
    metered!("strings.any_suffix_match", cost::pairs),
    metered!("strings.count", cost::occurrences),
    metered!("strings.replace_n", cost::replace_n),
    metered!("strings.reverse", cost::copy),
    metered!("substring", cost::copy),
    metered!("trim", cost::copy),
    metered!("trim_left", cost::copy),
    metered!("trim_prefix", cost::copy),
    metered!("trim_right", cost::copy),
    metered!("trim_space", cost::copy),
    metered!("trim_suffix", cost::copy),
    metered!("upper", cost::escaped),
    metered!("regex.find_all_string_submatch_n", cost::regex_submatches),
    metered!("regex.find_n", cost::regex_find),
    metered!("regex.is_valid", cost::pattern),
    metered!("regex.match", cost::pattern),
    metered!("regex.replace", cost::regex_replace),
    metered!("regex.split", cost::regex_find),
    metered!("glob.match", cost::pattern),
    metered!("glob.quote_meta", cost::pattern),
    // Encodings.
    metered!("base64.decode", cost::escaped),
    metered!("base64.encode", cost::escaped),
    free("base64.is_valid"),
    metered!("base64url.decode", cost::escaped),
    metered!("base64url.encode", cost::escaped),
    metered!("base64url.encode_no_pad", cost::escaped),
    metered!("hex.decode", cost::escaped),
    metered!("hex.encode", cost::escaped),
    metered!("urlquery.decode", cost::escaped),
    metered!("urlquery.decode_object", cost::parts),
    metered!("urlquery.encode", cost::escaped),
    metered!("urlquery.encode_object", cost::escaped),
    metered!("json.is_valid", cost::parts),
    metered!("json.marshal", cost::escaped),
    metered!("json.unmarshal", cost::parts),
    // Types, networks, versions and times.
    free("is_array"),
    free("is_boolean"),
    free("is_null"),
    free("is_number"),
    free("is_object"),
    free("is_set"),
    free("is_string"),
    free("type_name"),
    free("net.cidr_contains"),
    metered!("net.cidr_expand", cost::cidr_expand),
    free("net.cidr_is_valid"),
    free("semver.compare"),
    free("semver.is_valid"),
    free("time.add_date"),
    free("time.clock"),
    free("time.date"),
    free("time.diff"),
    metered!("time.format", cost::parts),
    impure("time.now_ns"),
    free("time.parse_duration_ns"),
    free("time.parse_ns"),
    free("time.parse_rfc3339_ns"),
    free("time.weekday"),
    impure("trace"),
];

/// Prefixes of functions of the Open Policy Agent that the library does not have.
const KNOWN_ELSEWHERE: &[&str] = &[
    "crypto.",
    "glob.",
    "graph.",
    "graphql.",
    "http.",
    "io.jwt.",
    "json.",
    "net.",
    "opa.",
    "providers.",
    "rand.",
    "regex.",
    "rego.",
    "semver.",
    "strings.",
    "time.",
    "units.",
    "urlquery.",
    "uuid.",
    "yaml.",
];

fn find(name: &str) -> Option<&'static BuiltIn> {
    BUILT_INS.iter().find(|built_in| built_in.name == name)
}

/// Whether policies may call a function.
pub(super) fn is_available(name: &str) -> bool {
    find(name).is_some()
}

/// Whether the result of a function depends on its arguments alone. Not so for an unknown function.
pub(super) fn is_pure(name: &str) -> bool {
    find(name).is_some_and(|built_in| built_in.is_pure)
}

/// Returns the functions to call in place of those of the library, with their names and numbers of
/// arguments.
pub(super) fn metered_functions() -> impl Iterator<Item = (&'static str, u8, Box<dyn Extension>)> {
    BUILT_INS.iter().filter_map(|built_in| {
        let (function, _) = built_in.metered?;
        let arguments = BUILTINS.get(built_in.name)?.1;
        let (span, expressions) = placeholders(arguments.into())?;
        let call = move |arguments: Vec<Value>| {
            match function(&span, &expressions, &arguments, false) {
                // A limit ends the evaluation: `not` would turn an undefined result into true.
                Err(error) if error.downcast_ref::<LimitError>().is_none() => Ok(Value::Undefined),
                result => result,
            }
        };
        Some((built_in.name, arguments, Box::new(call) as Box<dyn Extension>))
    })
}

/// Returns a place, and expressions for this many arguments, for errors that are not shown.
fn placeholders(count: usize) -> Option<(Span, Vec<Ref<Expr>>)> {
    let source = Source::from_contents("built-in".into(), String::new()).ok()?;
    let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
    let null = Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 };
    Some((span, vec![Ref::new(null); count]))
}

/// Whether a name is that of a function of the Open Policy Agent.
pub(super) fn is_known_elsewhere(name: &str) -> bool {
    KNOWN_ELSEWHERE.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns what to write instead of a function that policies cannot have.
pub(super) fn alternative(name: &str) -> &'static str {
    let alternatives = [
        ("http.", "a policy cannot reach the network; let the token carry the claim"),
        (
            "net.lookup",
            "a policy cannot reach the network; compare addresses with net.cidr_contains",
        ),
        ("opa.", "a policy cannot read the environment of the server; write the value into it"),
        ("rand.", "a policy has no random numbers"),
        ("uuid.", "a policy has no random numbers"),
        ("io.jwt.", "the token is verified already; its claims are in input.token"),
        ("regex.template_match", "use regex.match"),
        ("json.marshal_with_options", "use json.marshal"),
    ];
    let known = alternatives.iter().find(|(prefix, _)| name.starts_with(prefix));
    known.map_or("remove the call", |(_, alternative)| alternative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_table_exists() {
        for (index, built_in) in BUILT_INS.iter().enumerate() {
            let name = built_in.name;
            assert!(BUILTINS.contains_key(name), "{name}");
            assert!(BUILT_INS[..index].iter().all(|other| other.name != name), "{name} twice");
        }
    }

    #[test]
    fn impure_functions_of_the_library_are_known() {
        let missing = ["json.marshal_with_options", "rand.intn", "regex.template_match"];
        for name in BUILTINS.keys() {
            assert_eq!(is_available(name), !missing.contains(name), "{name} is new: sort it in");
        }
        for name in ["time.now_ns", "trace", "print", "rand.intn", "http.send", "unknown"] {
            assert!(!is_pure(name), "{name}");
        }
        assert!(is_pure("object.get") && is_pure("time.parse_ns"));
    }
}
