//! What one machine may have of memory and tables.

use crate::plugin::Limits;
use wasmtime::ResourceLimiter;

/// Counts what a machine has, all of its memories and all of its tables together.
#[derive(Debug)]
pub(crate) struct Budget {
    memory: Account,
    tables: Account,
}

#[derive(Debug)]
struct Account {
    used: usize,
    limit: usize,
    /// What the last growth that was let through added.
    last: usize,
    /// The most that was asked for and refused.
    refused: usize,
}

/// Memories, or tables, that one machine may have: compilers make one of each, few make more.
const OF_A_KIND_MAX: usize = 64;

impl Budget {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            memory: Account::new(limits.memory_bytes),
            tables: Account::new(limits.table_elements),
        }
    }

    /// What was refused, in words, if anything was.
    pub(crate) fn refused(&self) -> Option<String> {
        let Account { refused, limit, .. } = self.memory;
        if refused > 0 {
            return Some(format!("asked for {refused} bytes of memory; its limit is {limit}"));
        }
        let Account { refused, limit, .. } = self.tables;
        (refused > 0)
            .then(|| format!("asked for {refused} elements of tables; its limit is {limit}"))
    }
}

impl Account {
    const fn new(limit: usize) -> Self {
        Self { used: 0, limit, last: 0, refused: 0 }
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let more = desired.saturating_sub(current);
        let wanted = self.used.saturating_add(more);
        if wanted > self.limit {
            self.refused = self.refused.max(wanted);
            return false;
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.last = more;
        self.used = wanted;
        true
    }

    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last));
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.memory.grow(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.tables.grow(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.take_back();
        Ok(())
    }

    fn tables(&self) -> usize {
        OF_A_KIND_MAX
    }

    fn memories(&self) -> usize {
        OF_A_KIND_MAX
    }
}
