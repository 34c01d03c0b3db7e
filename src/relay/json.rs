//! JSON objects whose members have a fixed order: clients compare some of these objects byte for byte.

use serde_json::Value;

/// Writes an object, member by member, in the order of the calls and without spaces.
pub(super) struct JsonObject(String);

impl JsonObject {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a string, a number or a boolean.
    pub(super) fn member(self, name: &str, value: impl Into<Value>) -> Self {
        self.json(name, &value.into().to_string())
    }

    /// Adds a value that is JSON already.
    pub(super) fn json(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_order_of_the_calls() {
        assert_eq!(JsonObject::new().end(), "{}");
        let object = JsonObject::new().member("b", "x\"\n").member("a", 7).json("list", "[1,2]").member("t", true);
        assert_eq!(object.end(), r#"{"b":"x\"\n","a":7,"list":[1,2],"t":true}"#);
    }
}
