//! Envoy's `expr_create`, `expr_evaluate` and `expr_delete`: CEL over the properties.
//!
//! Each root context has expressions of its own, known by numbers from 0 up. A number is
//! four bytes, little-endian; a result is encoded as a property of its type would be.
//!
//! Envoy stops an evaluation that takes too long. Nothing stops one here, so that an
//! expression is looked over when it is created: one that could take long is refused
//! (`BadArgument`), and so are `map` and `filter`, which can make lists of lists without end.
//! What is short, and so nearly all that is written by people, means what it means in Envoy.
//! But for this: names of headers are lower-case in `request.headers['x-name']`, each is
//! counted once, and a whole group or message inside of an expression is a map.

mod program;
mod values;

use super::{Caller, ForeignFunction};
use crate::properties;
use crate::status::Status;
use program::Program;
use std::collections::HashMap;

/// The most expressions that a root context may have at once.
const EXPRESSIONS_MAX: usize = 1024;

/// A root context's expressions, by number.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    by_token: HashMap<u32, Expression>,
    next_token: u32,
}

#[derive(Debug)]
enum Expression {
    /// Nothing but a property: it need not be evaluated, and messages are themselves.
    Path(Vec<u8>),
    Program(Program),
}

/// Takes an expression's text, gives its number.
pub(super) struct Create;

/// Takes an expression's number, gives its value in the context that calls.
pub(super) struct Evaluate;

/// Takes an expression's number, and forgets the expression if there is one.
pub(super) struct Delete;

impl ForeignFunction for Create {
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let program = Program::read(arguments)?;
        let expression = match program.path() {
            Some(path) => Expression::Path(path),
            None => Expression::Program(program),
        };
        caller.memory.expressions.add(expression).map(|token| token.to_le_bytes().into())
    }
}

impl ForeignFunction for Evaluate {
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let token = token(arguments)?;
        let view = caller.view();
        match caller.memory.expressions.by_token.get(&token).ok_or(Status::NotFound)? {
            Expression::Path(path) => properties::get(path, &view).map_err(|status| match status {
                Status::NotFound => Status::InternalFailure,
                status => status,
            }),
            Expression::Program(program) => {
                let mut encoded = Vec::new();
                values::encode(&program.evaluate(&view)?, &mut encoded)?;
                Ok(encoded)
            }
        }
    }
}

impl ForeignFunction for Delete {
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        caller.memory.expressions.by_token.remove(&token(arguments)?);
        Ok(Vec::new())
    }
}

impl Expressions {
    fn add(&mut self, expression: Expression) -> Result<u32, Status> {
        if self.by_token.len() >= EXPRESSIONS_MAX {
            return Err(Status::InternalFailure);
        }
        let mut token = self.next_token;
        while self.by_token.contains_key(&token) {
            token = token.wrapping_add(1);
        }
        self.next_token = token.wrapping_add(1);
        self.by_token.insert(token, expression);
        Ok(token)
    }
}

fn token(arguments: &[u8]) -> Result<u32, Status> {
    arguments.try_into().map(u32::from_le_bytes).map_err(|_| Status::BadArgument)
}

#[cfg(test)]
mod tests;
