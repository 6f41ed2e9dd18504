//! What plugins are asked and what they answer arrives as it was sent, or is malformed.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_core::plugin::{
    FACTS_BYTES_MAX, FACTS_MAX, OUTPUT_BYTES_MAX, OUTPUTS_MAX, Resolve, Resolved, Unresolved,
};
use tidegate_core::wire::plugin::{
    RESOLVE_BYTES_MAX, RESOLVED_BYTES_MAX, decode_resolve, decode_resolved, encode_resolve,
    encode_resolved, plugin_asked,
};
use tidegate_core::wire::{Kind, VERSION, kind};

fn ask() -> impl Strategy<Value = Resolve> {
    let name = || "[a-z0-9_-]{1,64}".prop_map(String::into_boxed_str);
    let facts = vec(option::of(vec(any::<u8>(), 0..200)), 0..=FACTS_MAX);
    (name(), any::<u64>(), vec(name(), 1..=OUTPUTS_MAX), facts)
        .prop_map(|(plugin, form, outputs, facts)| Resolve { plugin, form, outputs, facts })
}

fn resolved() -> impl Strategy<Value = Resolved> {
    let output = option::of("\\PC{0,64}".prop_map(String::into_boxed_str));
    let why = [Unresolved::Unknown, Unresolved::Mismatch, Unresolved::Failed, Unresolved::Busy];
    prop_oneof![
        3 => vec(output, 1..=OUTPUTS_MAX).prop_map(Ok),
        1 => prop::sample::select(why.to_vec()).prop_map(Err),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_a_plugin_is_asked_arrives_as_it_was_sent(ask in ask()) {
        let bytes = encode_resolve(&ask);
        prop_assert!(bytes.len() <= RESOLVE_BYTES_MAX);
        prop_assert_eq!(kind(&bytes), Some(Kind::Resolve));
        prop_assert_eq!(plugin_asked(&bytes), Some(ask.plugin.clone()));
        prop_assert_eq!(decode_resolve(&bytes), Ok(ask));
    }

    #[test]
    fn what_it_answers_arrives_as_it_was_sent(resolved in resolved(), is_own: bool) {
        let bytes = encode_resolved(&resolved, is_own);
        prop_assert!(bytes.len() <= RESOLVED_BYTES_MAX);
        prop_assert_eq!(kind(&bytes), Some(Kind::Resolved));
        prop_assert_eq!(decode_resolved(&bytes), Ok((resolved, is_own)));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_malformed(ask in ask(), resolved in resolved(), at: prop::sample::Index) {
        let (asked, answered) = (encode_resolve(&ask), encode_resolved(&resolved, false));
        prop_assert!(decode_resolve(&asked[..at.index(asked.len())]).is_err());
        prop_assert!(decode_resolved(&answered[..at.index(answered.len())]).is_err());
        prop_assert!(decode_resolve(&[&asked[..], &[0]].concat()).is_err());
        prop_assert!(decode_resolved(&[&answered[..], &[0]].concat()).is_err());
    }

    #[test]
    fn no_bytes_at_all_do_harm(mut bytes in vec(any::<u8>(), 0..300), is_ask: bool) {
        bytes.splice(0..0, [VERSION, if is_ask { b'P' } else { b'Q' }]);
        if let Ok(ask) = decode_resolve(&bytes) {
            prop_assert_eq!(encode_resolve(&ask), bytes.clone());
        }
        if let Ok((resolved, is_own)) = decode_resolved(&bytes) {
            prop_assert_eq!(encode_resolved(&resolved, is_own), bytes);
        }
    }
}

#[test]
fn what_is_beyond_the_bounds_is_malformed() {
    let whole = Resolve {
        plugin: "p".into(),
        form: 1,
        outputs: vec!["o".into()],
        facts: vec![Some(vec![0; FACTS_BYTES_MAX])],
    };
    assert_eq!(decode_resolve(&encode_resolve(&whole)).as_ref(), Ok(&whole));
    let refused = |ask: &Resolve| decode_resolve(&encode_resolve(ask)).unwrap_err().what;
    let facts = vec![Some(vec![0; FACTS_BYTES_MAX]), Some(vec![0])];
    assert!(refused(&Resolve { facts, ..whole.clone() }).contains("65536 bytes"));
    assert!(refused(&Resolve { facts: vec![None; 33], ..whole.clone() }).contains("32 facts"));
    assert!(refused(&Resolve { outputs: vec![], ..whole.clone() }).contains("16 outputs"));
    assert!(refused(&Resolve { plugin: "P".into(), ..whole }).contains("not a name"));
    let long = Ok(vec![Some("a".repeat(OUTPUT_BYTES_MAX + 1).into())]);
    assert!(decode_resolved(&encode_resolved(&long, false)).is_err());
}
