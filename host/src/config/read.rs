//! From the tree of text to typed settings: the field that a text is for says what it means.

use super::Problem;
use super::tree::{Node, Text, Value};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use std::fmt::Display;
use std::str::FromStr;

/// Reads `T` from the tree.
///
/// # Errors
///
/// The first value that does not fit, with its path, place, and what would fit.
pub(super) fn read<'de, T: Deserialize<'de>>(tree: &'de Node) -> Result<T, Problem> {
    T::deserialize(tree)
}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::wanted(wanted.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::wanted(wanted.to_string())
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("there is no setting {name:?} here")).hint(nearest(name, known))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format!("has no {name:?}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::wanted(format!("one of {}", known.join(", ")))
    }
}

/// "did you mean", or everything that could be meant.
fn nearest(name: &str, known: &[&str]) -> String {
    /// Below this two names share too little to be one mistyped.
    const ALIKE_MIN: f64 = 0.75;
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(
            || format!("it has {}", known.join(", ")),
            |(_, known)| format!("did you mean {known:?}?"),
        )
}

/// What a scalar is to who takes any kind.
enum Kind {
    Bool(bool),
    Whole(i64),
    Fraction(f64),
    Text,
}

impl Text {
    /// By JSON's rules, so that `010`, `0x1f` and `no` stay the texts that they are.
    fn kind(&self) -> Kind {
        if !self.is_plain {
            return Kind::Text;
        }
        match serde_json::from_str(&self.meant) {
            Ok(serde_json::Value::Bool(value)) => Kind::Bool(value),
            Ok(serde_json::Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Kind::Whole(value),
                (None, Some(value)) => Kind::Fraction(value),
                (None, None) => Kind::Text,
            },
            _ => Kind::Text,
        }
    }
}

impl Node {
    fn as_it_stands<'de, V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, Problem> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_str(&text.meant),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Map(fields) => visitor.visit_map(Fields { fields: fields.iter(), next: None }),
        }
        .map_err(|p: Problem| p.of(self))
    }

    fn text<T: FromStr>(&self, wanted: &str) -> Result<T, Problem> {
        match &self.value {
            Value::Text(text) => text.meant.parse().map_err(|_| Problem::found(self, wanted)),
            _ => Err(Problem::found(self, wanted)),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $kind:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            let wanted = format!("a whole number, {} to {}", <$kind>::MIN, <$kind>::MAX);
            visitor.$visit(self.text(&wanted)?).map_err(|p: Problem| p.of(self))
        }
    )*};
}

macro_rules! as_they_stand {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.as_it_stands(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Problem;

    /// For who takes whatever stands there: only here a text without quotes is looked at for
    /// being a number, or true or false.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Value::Text(text) = &self.value else { return self.as_it_stands(visitor) };
        match text.kind() {
            Kind::Bool(value) => visitor.visit_bool(value),
            Kind::Whole(value) => visitor.visit_i64(value),
            Kind::Fraction(value) => visitor.visit_f64(value),
            Kind::Text => visitor.visit_str(&text.meant),
        }
        .map_err(|p: Problem| p.of(self))
    }

    as_they_stand! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_bool(self.text("true or false")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.value {
            // A section with nothing in it is a section of defaults.
            Value::Null => visitor.visit_map(Fields { fields: [].iter(), next: None }),
            Value::Map(_) => self.as_it_stands(visitor),
            _ => Err(Problem::found(self, "a map of settings")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.value {
            Value::Text(text) => visitor
                .visit_enum(text.meant.as_str().into_deserializer())
                .map_err(|p: Problem| p.of(self)),
            _ => Err(Problem::found(self, "one word")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.as_it_stands(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.as_it_stands(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.as_it_stands(visitor)
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(node).map(Some).map_err(|p| p.within(&format!("[{index}]")))
    }
}

struct Fields<'de> {
    fields: std::slice::Iter<'de, (String, Node)>,
    next: Option<&'de (String, Node)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        self.next = self.fields.next();
        let Some((name, node)) = self.next else { return Ok(None) };
        let key = seed.deserialize(name.as_str().into_deserializer());
        key.map(Some).map_err(|p: Problem| p.at(node.origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        match self.next {
            Some((name, node)) => seed.deserialize(node).map_err(|p| p.of(node).within(name)),
            None => Err(de::Error::custom("a value without a name")),
        }
    }
}
