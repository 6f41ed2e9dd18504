//! Plugins of policies that the proxy itself runs: asked by a function of the proxy's, which
//! answers at once. Envoy has no such function; there the host service is asked, as for all else.

use crate::abi::{self, Failure};
use crate::vm::Vm;
use tidegate_core::ask::NoAnswer;
use tidegate_core::gate::Answered;
use tidegate_core::wire::Kind;

/// The function's name. It takes what would be sent to the host service, and gives its answer.
const FUNCTION: &str = "tidegate.resolve";

/// What a plugin of this proxy's says; `None` if the proxy runs none. Whether it does is found out
/// once: a function that is not there does not come.
pub(crate) fn ask_here(vm: &mut Vm, ask: &[u8]) -> Option<Result<Answered, NoAnswer>> {
    if vm.runs_no_plugins {
        return None;
    }
    let answer = match abi::call_function(FUNCTION, ask) {
        Err(Failure::NotFound) => {
            vm.runs_no_plugins = true;
            return None;
        }
        answer => answer.ok(),
    };
    let answer = answer.and_then(|bytes| Answered::decode(Kind::Resolved, bytes.to_vec()).ok());
    Some(answer.ok_or(NoAnswer::Unreachable))
}
