//! One revocation as it is written in JSON: which fields there are, and what stands in them.
//!
//! What a field means is said in [`asked`](super::asked). Here a field that does not exist is
//! refused with the one that was probably meant, and one that is there twice, for readers differ
//! in which of them holds.

use super::wrong::nearest;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A field, by its place in [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Jti,
    Iss,
    Sub,
    Client,
    Tenant,
    Sid,
    Kid,
    Cookie,
    Opaque,
    TokenHash,
    Id,
    Kind,
    Exp,
    Until,
    Before,
    At,
    Lifted,
    Reason,
}

/// What the fields are called.
const NAMES: [&str; 18] = [
    "jti",
    "iss",
    "sub",
    "client",
    "tenant",
    "sid",
    "kid",
    "cookie",
    "opaque",
    "token_hash",
    "id",
    "kind",
    "exp",
    "until",
    "before",
    "at_ms",
    "lifted",
    "reason",
];

/// What stands in a field: as much of it as matters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Whole(i64),
    Fraction(f64),
    Flag(bool),
    Null,
    List,
    Map,
}

/// An object's fields. It is never shown: what it names is nobody's business.
pub(super) struct Fields<'a>([Option<Value<'a>>; NAMES.len()]);

impl Field {
    pub(super) const fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

impl<'a> Fields<'a> {
    /// What stands there, if it is there.
    pub(super) fn at(&self, field: Field) -> Option<&Value<'a>> {
        self.0[field as usize].as_ref()
    }

    fn empty() -> Self {
        Self(std::array::from_fn(|_| None))
    }
}

impl Value<'_> {
    /// What kind of thing it is, for messages.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Whole(_) => "a number",
            Self::Fraction(_) => "a number with a fraction, or a very large one",
            Self::Flag(_) => "true or false",
            Self::Null => "nothing",
            Self::List => "a list",
            Self::Map => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an object, such as {\"jti\": \"…\", \"iss\": \"…\", \"exp\": 1790000000}",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::empty();
                while let Some(Name(name)) = map.next_key()? {
                    let known = NAMES.iter().position(|known| *known == name);
                    let Some(place) = known else {
                        return Err(A::Error::custom(nearest("field", &name, &NAMES)));
                    };
                    if fields.0[place].is_some() {
                        return Err(A::Error::custom(format!("{name}: is there twice")));
                    }
                    // Who says no jti beside an iss must not have all of the issuer's revoked.
                    let value = map.next_value()?;
                    if value == Value::Null {
                        return Err(A::Error::custom(format!("{name}: is null; leave it out")));
                    }
                    fields.0[place] = Some(value);
                }
                Ok(fields)
            }
        }

        from.deserialize_map(Object)
    }
}

/// A field's name, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a field's name is a string")),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Value::Whole(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(number).map_or(Value::Fraction(number as f64), Value::Whole))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Value::Fraction(number))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Value::Flag(flag))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Map)
            }
        }

        from.deserialize_any(Any)
    }
}
