//! An expression that was read and looked over, so that evaluating it takes neither long nor
//! much stack.

use super::values;
use crate::maps::FIELDS_MAX;
use crate::properties::{View, top};
use crate::status::Status;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use cel::common::types::{CelBool, CelString};
use cel::{Context, Env, ExecutionError};
use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// The longest text of an expression, in bytes: several screens full.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// How deep an expression may be: each level takes the evaluator some 2 KiB of stack, which
/// is a worker's and has a module's frames on it already.
const DEPTH_MAX: usize = 48;

/// How many steps it may take: some ten milliseconds of them.
const STEPS_MAX: usize = 1 << 17;

/// How many steps a match is worth: one is let in for each header, two are not.
const MATCH_STEPS: usize = 100;

/// The largest pattern, in bytes of its compiled form.
const PATTERN_BYTES_MAX: usize = 1 << 16;

/// How much stack reading takes at most, for a text that is all operators: too much for a
/// worker's thread.
const READING_STACK_BYTES: usize = 64 << 20;

/// What can be called, beside operators: the standard's functions.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// An expression.
#[derive(Debug)]
pub(super) struct Program {
    root: IdedExpr,
    /// The properties that it begins with.
    names: Vec<String>,
}

impl Program {
    /// Reads an expression, on a thread of its own that has stack enough for it.
    pub(super) fn read(text: &[u8]) -> Result<Self, Status> {
        let text = std::str::from_utf8(text).map_err(|_| Status::BadArgument)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(Status::BadArgument);
        }
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().stack_size(READING_STACK_BYTES);
            let reader = reader.spawn_scoped(scope, || Self::read_deep(text));
            let read = reader.map_err(|_| Status::InternalFailure)?.join();
            read.ok().flatten().ok_or(Status::BadArgument)
        })
    }

    /// Reads an expression, and drops one that is refused where there is stack for that too.
    fn read_deep(text: &str) -> Option<Self> {
        let program = ENV.compile(text).ok()?;
        let root = program.expression();
        if depth(root) > DEPTH_MAX || steps(root)? > STEPS_MAX {
            return None;
        }
        let references = program.references();
        let names = references.variables().into_iter().map(Into::into).collect();
        Some(Self { root: root.clone(), names })
    }

    /// The path of a property, if the expression is nothing else.
    pub(super) fn path(&self) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        let mut at = &self.root;
        loop {
            match &at.expr {
                Expr::Select(select) if !select.test => {
                    parts.push(&*select.field);
                    at = &select.operand;
                }
                Expr::Ident(name) => {
                    parts.push(name);
                    parts.reverse();
                    return Some(parts.join("\0").into_bytes());
                }
                _ => return None,
            }
        }
    }

    /// What it comes to in a context.
    pub(super) fn evaluate(&self, view: &View<'_>) -> Result<cel::Value, Status> {
        let mut context = Context::with_env(ENV.clone());
        for name in &self.names {
            if let Some(value) = top(name.as_bytes(), view) {
                context.add_variable_from_value(name, values::from_property(&value, view));
            }
        }
        // The library is not known to panic, but it is not ours to promise.
        let result = catch_unwind(AssertUnwindSafe(|| cel::Value::resolve(&self.root, &context)));
        result.ok().and_then(Result::ok).ok_or(Status::InternalFailure)
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    // Neither name is taken: the library is built without its own.
    let _ = cel::add_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>, id = "matches");
    let _ = cel::add_member_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>);
    Arc::new(env)
});

fn matches(text: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    thread_local! {
        /// The pattern that came last: in a loop, and from request to request, the next is
        /// mostly the same.
        static LAST: RefCell<Option<Regex>> = const { RefCell::new(None) };
    }
    let pattern = pattern.inner();
    LAST.with_borrow_mut(|last| {
        let regex = match last.take().filter(|last| last.as_str() == pattern) {
            Some(regex) => regex,
            None => RegexBuilder::new(pattern)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .map_err(|error| ExecutionError::function_error("matches", error))?,
        };
        Ok(last.insert(regex).is_match(text.inner()).into())
    })
}

/// How deep an expression is.
fn depth(root: &IdedExpr) -> usize {
    1 + parts(root).into_iter().map(depth).max().unwrap_or(0)
}

/// How many steps an expression takes at most; none if it cannot be told, or if it calls what
/// there is not.
fn steps(root: &IdedExpr) -> Option<usize> {
    let own = match &root.expr {
        Expr::Comprehension(comprehension) => return steps_of_loop(comprehension),
        Expr::Call(call) => {
            // Operators are written `_+_` or `@in`.
            let is_operator = call.func_name.contains(['_', '@']);
            if !is_operator && !FUNCTIONS.contains(&&*call.func_name) {
                return None;
            }
            if call.func_name == "matches" { MATCH_STEPS } else { 1 }
        }
        _ => 1,
    };
    parts(root).into_iter().try_fold(own, |sum, part| Some(sum.saturating_add(steps(part)?)))
}

/// `all`, `exists` or `exists_one`: they carry a truth or a count from turn to turn. `map` and
/// `filter` carry a list.
fn steps_of_loop(comprehension: &ComprehensionExpr) -> Option<usize> {
    if matches!(comprehension.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
        return None;
    }
    let turns = match &comprehension.iter_range.expr {
        Expr::List(list) => list.elements.len(),
        Expr::Map(map) => map.entries.len(),
        // Nothing that a path leads to is longer than a header map.
        _ => FIELDS_MAX,
    };
    let turn = steps(&comprehension.loop_cond)?.saturating_add(steps(&comprehension.loop_step)?);
    let around = steps(&comprehension.iter_range)?.saturating_add(steps(&comprehension.result)?);
    Some(turns.saturating_mul(turn).saturating_add(around))
}

/// What an expression is made of.
fn parts(root: &IdedExpr) -> Vec<&IdedExpr> {
    match &root.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(it) => it.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
