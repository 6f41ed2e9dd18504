//! What one instance may have of memory and tables: a filter's machine, or a component's.

use wasmtime::ResourceLimiter;

/// Memories, or tables, that one instance may have: compilers make one of each, few make more. Even
/// an empty memory reserves 4 GiB of addresses.
const OF_A_KIND_MAX: usize = 64;

/// Modules that one component may be linked of: those of Python have some twenty.
const INSTANCES_MAX: usize = 256;

/// Counts what an instance has, all of its memories and all of its tables together.
#[derive(Debug)]
pub struct Budget {
    memory: Account,
    tables: Account,
    /// Whether who is refused something ends, rather than hears of it.
    ends: bool,
}

#[derive(Debug)]
struct Account {
    used: usize,
    limit: usize,
    /// The most that was asked for and refused.
    refused: usize,
}

impl Budget {
    /// A budget of so many bytes of memory and elements of tables.
    #[must_use]
    pub const fn new(memory_bytes: usize, table_elements: usize) -> Self {
        let (memory, tables) = (Account::new(memory_bytes), Account::new(table_elements));
        Self { memory, tables, ends: false }
    }

    /// The same, but whoever is refused something ends, as by a trap: few programs go on well
    /// without.
    #[must_use]
    pub const fn or_end(self) -> Self {
        Self { ends: true, ..self }
    }

    /// What there is of memory, in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory.used
    }

    /// What was refused, in words, if anything was.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        let Account { refused, limit, .. } = self.memory;
        if refused > 0 {
            return Some(format!("asked for {refused} bytes of memory; its limit is {limit}"));
        }
        let Account { refused, limit, .. } = self.tables;
        (refused > 0)
            .then(|| format!("asked for {refused} elements of tables; its limit is {limit}"))
    }

    fn told(&self, may_grow: bool) -> wasmtime::Result<bool> {
        if self.ends
            && !may_grow
            && let Some(refused) = self.refused()
        {
            return Err(wasmtime::Error::msg(refused));
        }
        Ok(may_grow)
    }
}

impl Account {
    const fn new(limit: usize) -> Self {
        Self { used: 0, limit, refused: 0 }
    }

    /// What a module's own maximum forbids, nobody has to refuse.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            self.refused = self.refused.max(wanted);
            return false;
        }
        self.used = wanted;
        true
    }
}

/// A growth that is let through here fails only if the machine has no memory, and stays counted.
/// wasmtime also tells of failures that it never asked about, so who took those off the account
/// could be made to forget what there is.
impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let may_grow = self.memory.grow(current, desired, maximum);
        self.told(may_grow)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let may_grow = self.tables.grow(current, desired, maximum);
        self.told(may_grow)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        OF_A_KIND_MAX
    }

    fn memories(&self) -> usize {
        OF_A_KIND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::one_line;
    use wasmtime::{Engine, Instance, Module, Store};

    const PAGE: usize = 64 << 10;

    /// An instance of a module, by a budget of ten pages and a hundred elements, once its `run` has
    /// run; or why there is none.
    fn after(fields: &str) -> Result<Budget, String> {
        let engine = Engine::default();
        let code = wat::parse_str(format!("(module {fields})")).unwrap();
        let module = Module::new(&engine, code).unwrap();
        let mut store = Store::new(&engine, Budget::new(10 * PAGE, 100));
        store.limiter(|budget| budget);
        let instance = Instance::new(&mut store, &module, &[]).map_err(|it| one_line(&it))?;
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        run.call(&mut store, ()).map_err(|it| one_line(&it))?;
        Ok(store.into_data())
    }

    #[test]
    fn what_a_module_may_not_have_by_itself_is_neither_counted_nor_refused() {
        let grows = "(drop (memory.grow (i32.const 20)))".repeat(5);
        let budget = after(&format!("(memory 1 2) (func (export \"run\") {grows})")).unwrap();
        assert_eq!((budget.memory_bytes(), budget.refused()), (PAGE, None));
    }

    #[test]
    fn all_memories_count_together_and_there_are_not_many() {
        let grows = "(drop (memory.grow 1 (i32.const 6)))";
        let fields = format!("(memory 3) (memory 2) (func (export \"run\") {grows})");
        let budget = after(&fields).unwrap();
        let refused =
            format!("asked for {} bytes of memory; its limit is {}", 11 * PAGE, 10 * PAGE);
        assert_eq!((budget.memory_bytes(), budget.refused()), (5 * PAGE, Some(refused)));

        for (kind, many) in [("memory", "(memory 0)"), ("table", "(table 0 funcref)")] {
            let fields = |count| format!("{} (func (export \"run\"))", many.repeat(count));
            assert!(after(&fields(64)).is_ok());
            let why = after(&fields(65)).unwrap_err();
            assert!(why.contains(&format!("{kind} count too high")), "{why}");
        }
    }

    /// wasmtime asks nobody of such growth, and tells that it failed.
    #[test]
    fn growth_beyond_all_numbers_gives_nothing_back() {
        let grow = "(drop (table.grow (ref.null func) (i64.const 40)))
            (drop (table.grow (ref.null func) (i64.const -1)))";
        let fields = format!("(table i64 1 funcref) (func (export \"run\") {})", grow.repeat(4));
        let refused = after(&fields).unwrap().refused();
        assert_eq!(refused.unwrap(), "asked for 121 elements of tables; its limit is 100");
    }
}
