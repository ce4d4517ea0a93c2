//! A plugin's configuration: one JSON object whose keys are all known, read key by key.
//!
//! The law: every refusal is one line that names the key and what was expected.

use proxy_wasm::hostcalls::log;
use proxy_wasm::types::LogLevel;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use tinyjson::JsonValue;

/// The settings in a plugin context's configuration. None refuses them: what is wrong is in the log then.
pub fn read<S>(plugin: &str, document: Option<Vec<u8>>, parse: fn(&[u8]) -> Result<S, String>) -> Option<Rc<S>> {
    match parse(&document.unwrap_or_default()) {
        Ok(settings) => Some(Rc::new(settings)),
        Err(reason) => {
            let _ = log(LogLevel::Error, &format!("{plugin}: bad configuration: {reason}"));
            None
        }
    }
}

pub struct Conf(HashMap<String, JsonValue>);

impl Conf {
    pub fn parse(document: &[u8], known: &[&str]) -> Result<Self, String> {
        let text = std::str::from_utf8(document).map_err(|_| "UTF-8 was expected")?;
        let value: JsonValue = text.parse().map_err(|error: tinyjson::JsonParseError| error.to_string().replace('\n', " "))?;
        let JsonValue::Object(fields) = value else { return Err("a JSON object was expected".into()) };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown key {key}")),
            None => Ok(Self(fields)),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(JsonValue::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("a string is expected for {key}")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let complaint = || format!("a list of strings is expected for {key}");
        let Some(value) = self.0.get(key) else { return Ok(vec![]) };
        let JsonValue::Array(items) = value else { return Err(complaint()) };
        items.iter().map(|item| item.get::<String>().cloned().ok_or_else(complaint)).collect()
    }

    pub fn number(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(JsonValue::Number(n))
                if n.fract() == 0.0 && (f64::from(*range.start())..=f64::from(*range.end())).contains(n) =>
            {
                Ok(Some(*n as u32))
            }
            Some(_) => Err(format!("a number from {} to {} is expected for {key}", range.start(), range.end())),
        }
    }

    pub fn flag(&self, key: &str) -> Result<bool, String> {
        match self.0.get(key) {
            None => Ok(false),
            Some(JsonValue::Boolean(flag)) => Ok(*flag),
            Some(_) => Err(format!("true or false is expected for {key}")),
        }
    }

    pub fn required(&self, key: &str) -> Result<String, String> {
        let text = self.text(key)?.unwrap_or_default();
        if is_line(&text) {
            Ok(text)
        } else {
            Err(format!("one line of text is expected for {key}"))
        }
    }

    pub fn name(&self, key: &str) -> Result<Option<String>, String> {
        match self.text(key)? {
            Some(name) if !is_token(&name) => Err(format!("not a header name: {name}")),
            name => Ok(name),
        }
    }

    pub fn names(&self, key: &str) -> Result<Vec<String>, String> {
        let names = self.texts(key)?;
        match names.iter().find(|name| !is_token(name)) {
            Some(name) => Err(format!("not a header name: {name}")),
            None => Ok(names),
        }
    }

    pub fn path(&self, key: &str) -> Result<Option<String>, String> {
        match self.text(key)? {
            Some(path) if !path.starts_with('/') => Err(format!("a path that begins with / is expected for {key}")),
            path => Ok(path),
        }
    }
}

/// A field name as RFC 9110 section 5.1 wants it.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control())
}
