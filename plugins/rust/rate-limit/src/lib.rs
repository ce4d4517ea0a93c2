//! Lets each client make so many requests in a window of time; the workers of a host count together.
//!
//! The law: a client without its header is known by its address, so that nobody escapes the count. A host that refuses to keep
//! counts (it has no room) makes the SDK trap; `failure_policy` says what then becomes of requests.

mod window;

use conf::Conf;
use hmac_sha256::Hash;
use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;
use std::time::UNIX_EPOCH;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

struct Settings {
    limit: u32,
    window_seconds: u32,
    key_header: Option<String>,
    group: Option<String>,
}

impl Settings {
    fn parse(document: &[u8]) -> Result<Self, String> {
        let conf = Conf::parse(document, &["limit", "window_seconds", "key_header", "group"])?;
        Ok(Self {
            limit: conf.number("limit", 1..=u32::MAX)?.ok_or("a number is expected for limit")?,
            window_seconds: conf.number("window_seconds", 1..=86_400)?.unwrap_or(60),
            key_header: conf.name("key_header")?,
            group: conf.text("group")?,
        })
    }
}

#[derive(Default)]
struct Root {
    settings: Option<Rc<Settings>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.settings = conf::read("rate-limit", self.get_plugin_configuration(), Settings::parse);
        self.settings.is_some()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Limit { settings: self.settings.clone()?, told: None }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Limit {
    settings: Rc<Settings>,
    /// What the response says: requests that remain, and seconds until the window ends.
    told: Option<(u32, u64)>,
}

impl Context for Limit {}

impl Limit {
    /// Whose request it is: the header's value, and for a client without it, or where none is configured, its address.
    fn client(&self) -> Vec<u8> {
        let header = self.settings.key_header.as_ref().and_then(|name| self.get_http_request_header_bytes(name));
        header.map(|value| [b"header ", &value[..]].concat()).unwrap_or_else(|| {
            let address = self.get_property(vec!["source", "address"]).unwrap_or_default();
            let end = address.iter().rposition(|byte| *byte == b':').unwrap_or(address.len());
            [b"address ", &address[..end]].concat()
        })
    }

    /// Counts are the route's own, unless the configuration names a group.
    fn scope(&self) -> String {
        self.settings.group.as_ref().map_or_else(
            || format!("route/{}", String::from_utf8_lossy(&self.get_property(vec!["route_name"]).unwrap_or_default())),
            |group| format!("group/{group}"),
        )
    }
}

impl HttpContext for Limit {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let (limit, length) = (self.settings.limit, u64::from(self.settings.window_seconds));
        let now = self.get_current_time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let [a, b, c, d, e, f, g, h, ..] = Hash::hash(&self.client());
        let key = u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 1;
        let Some(verdict) = window::count(&self.scope(), key, now / length, limit) else {
            let _ = log(LogLevel::Warn, "rate-limit: too many workers count at once; the request passes");
            return Action::Continue;
        };
        let reset = length - now % length;
        self.told = Some((verdict.remaining, reset));
        if verdict.allowed {
            return Action::Continue;
        }
        let reset = reset.to_string();
        let fields = vec![("retry-after", reset.as_str()), ("content-type", "application/json")];
        self.send_http_response(429, fields, Some(b"{\"error_msg\":\"too many requests\"}\n"));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some((remaining, reset)) = self.told {
            self.set_http_response_header("x-ratelimit-limit", Some(&self.settings.limit.to_string()));
            self.set_http_response_header("x-ratelimit-remaining", Some(&remaining.to_string()));
            self.set_http_response_header("x-ratelimit-reset", Some(&reset.to_string()));
        }
        Action::Continue
    }
}
