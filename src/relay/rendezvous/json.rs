//! JSON that keeps the order of members: header fields are sent in the order in which they were received.

use std::{collections::HashMap, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    /// Any other value.
    Scalar(Value),
}

impl Json {
    /// Parses `text`. The parser limits the depth of nesting.
    pub(super) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Returns the members of an object; none for any other value.
    pub(super) fn into_members(self) -> Vec<(String, Json)> {
        match self {
            Self::Object(members) => members,
            _ => Vec::new(),
        }
    }

    /// Converts the value to a string as JavaScript does; the items of an array are separated by commas.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Object(_) => "[object Object]".to_owned(),
            Self::Array(items) => items.iter().map(Self::text).collect::<Vec<_>>().join(","),
            Self::Scalar(Value::String(text)) => text.clone(),
            Self::Scalar(Value::Number(n)) => match n.as_f64() {
                // JavaScript has one kind of number: 1e3 is 1000.
                Some(x) if n.is_f64() && x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
                _ => n.to_string(),
            },
            Self::Scalar(other) => other.to_string(),
        }
    }
}

impl fmt::Display for Json {
    /// Writes the JSON without spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => write!(f, "{value}"),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (i, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i > 0 { "," } else { "" }, Value::from(name.as_str()))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Json, E> {
        Ok(Json::Scalar(b.into()))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Json, E> {
        Ok(Json::Scalar(n.into()))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Json, E> {
        Ok(Json::Scalar(n.into()))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Json, E> {
        Ok(Json::Scalar(n.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let (mut members, mut positions) = (Vec::<(String, Json)>::new(), HashMap::new());
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            // Of several members with the same name, the last one counts.
            match positions.get(&name) {
                Some(&at) => {
                    let at: usize = at;
                    members[at].1 = value;
                }
                None => {
                    positions.insert(name.clone(), members.len());
                    members.push((name, value));
                }
            }
        }
        Ok(Json::Object(members))
    }
}

/// Returns one JSON array with the elements of `own` and of the others, which other nodes have written. A text that is
/// no array is left out.
#[cfg(feature = "nodes")]
pub(super) fn joined<'a>(mut own: String, others: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    own.truncate(own.trim_end_matches(']').len());
    for other in others.into_iter().filter_map(|other| std::str::from_utf8(other).ok()) {
        let Some(elements) = other.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { continue };
        if own.len() > 1 && !elements.is_empty() {
            own.push(',');
        }
        own.push_str(elements);
    }
    own.push(']');
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_the_last_of_a_name_counts() {
        for (given, want) in [
            (r#"{"z":1,"a":[true,null,"x\u0001"],"m":{"b":1.5,"a":-2}}"#, None),
            (r#" { "a" : 1 , "b" : 2 , "a" : 3 } "#, Some(r#"{"a":3,"b":2}"#)),
            ("[]", None),
            ("{}", None),
            ("null", None),
        ] {
            assert_eq!(Json::parse(given.as_bytes()).unwrap().to_string(), want.unwrap_or(given));
        }
        for bad in ["", "{", "{}x", "nul", "\"\\ud800\"", "[1,]", &"[".repeat(100_000)] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn text_is_that_of_a_script() {
        let text = |json: &str| Json::parse(json.as_bytes()).unwrap().text();
        for (json, want) in [
            ("5", "5"),
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("true", "true"),
            ("null", "null"),
            ("[1,\"a\"]", "1,a"),
            ("{}", "[object Object]"),
        ] {
            assert_eq!(text(json), want);
        }
    }

    #[test]
    #[cfg(feature = "nodes")]
    fn arrays_of_several_nodes_are_one() {
        for (own, others, want) in [
            ("[]", &[][..], "[]"),
            ("[]", &["[]"], "[]"),
            ("[1]", &["[]", "[2,3]"], "[1,2,3]"),
            ("[]", &["[2]", "no array", "[3]"], "[2,3]"),
        ] {
            let others: Vec<_> = others.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(joined(own.to_owned(), &others), want);
        }
    }
}
