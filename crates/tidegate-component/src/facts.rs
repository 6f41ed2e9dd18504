//! What the host hands in of a request, as the gate reads it.

use crate::bindings::tidegate::edge::types::{self, Fact};
use tidegate_core::facts::{Facts, Want, WantId};

/// Which facts a policy wants of the host, and where each lies in what the host hands in.
pub(crate) struct Places(Vec<Option<usize>>);

/// One request's facts.
pub(crate) struct Given<'a> {
    pub(crate) places: &'a Places,
    pub(crate) facts: &'a [Fact],
}

/// The host's part of a policy's wants, in their order; and the places of all.
pub(crate) fn wanted(wants: &[Want]) -> (Vec<types::Want>, Places) {
    let mut told = Vec::with_capacity(wants.len());
    let places = wants.iter().map(|want| {
        told.push(in_wit(want)?);
        Some(told.len() - 1)
    });
    let places = Places(places.collect());
    (told, places)
}

/// `None` for what is worked out of other facts.
fn in_wit(want: &Want) -> Option<types::Want> {
    Some(match want {
        Want::Header(name) => types::Want::Header(name.to_string()),
        Want::SoleHeader(name) => types::Want::SoleHeader(name.to_string()),
        Want::ClientAddress => types::Want::ClientAddress,
        Want::Route => types::Want::Route,
        Want::Property(path) => {
            types::Want::Property(path.iter().map(|it| it.to_string()).collect())
        }
        Want::Claim { .. } | Want::Output { .. } => return None,
    })
}

impl Facts for Given<'_> {
    fn read(&mut self, id: WantId, _: &Want) -> Option<&[u8]> {
        let place = (*self.places.0.get(usize::from(id.0))?)?;
        self.facts.get(place)?.as_deref()
    }
}
