//! The library's enums on the command line, by the names that they have in its configuration: what it learns is
//! understood here without a word.

use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};

/// `name`, or `name=number` for a variant that holds one.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = match text.split_once('=') {
        None => json!(text),
        Some((name, number)) => {
            let number: Value =
                serde_json::from_str(number).map_err(|_| format!("`{number}` is not a number"))?;
            json!({ name: number })
        }
    };
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The names of an enum's variants.
pub fn choices<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names = Names(&[]);
    // Fails always: what is asked for is all that is wanted.
    let _ = T::deserialize(&mut names);
    names.0.to_vec()
}

/// Learns which variants are expected, and then has none.
struct Names(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Names {
    type Error = ValueError;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.0 = variants;
        Err(ValueError::custom("no value"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ValueError> {
        Err(ValueError::custom("not an enum"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hessian_probe::config::{Difference, StepSize};

    #[test]
    fn choices_are_all_that_can_be_parsed() {
        let names = choices::<Difference>();
        assert!(names.len() >= 3);
        for name in names {
            parse::<Difference>(name).unwrap();
        }
        assert!(choices::<StepSize>().contains(&"relative"));
        assert!(choices::<f64>().is_empty());
    }
}
