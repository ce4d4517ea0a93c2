//! Greets: sets one response header, and answers one path by itself. Both come from the plugin's configuration.
//!
//! The law: a plugin context owns its settings, a stream context shares those of its parent.

use conf::Conf;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

struct Settings {
    header: String,
    value: String,
    reply_path: Option<String>,
    reply_status: u32,
    reply_body: String,
}

impl Settings {
    fn parse(document: &[u8]) -> Result<Self, String> {
        let conf = Conf::parse(document, &["header", "value", "reply_path", "reply_status", "reply_body"])?;
        Ok(Self {
            header: conf.name("header")?.unwrap_or("x-greeting".into()),
            value: conf.required("value")?,
            reply_path: conf.path("reply_path")?,
            reply_status: conf.number("reply_status", 200..=599)?.unwrap_or(403),
            reply_body: conf.text("reply_body")?.unwrap_or_default(),
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
        self.settings = conf::read("greeting", self.get_plugin_configuration(), Settings::parse);
        self.settings.is_some()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Greeting { settings: self.settings.clone()? }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Greeting {
    settings: Rc<Settings>,
}

impl Context for Greeting {}

impl HttpContext for Greeting {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(reply_path) = &self.settings.reply_path else { return Action::Continue };
        // As bytes: the SDK's other function traps on a path that is no UTF-8.
        let path = self.get_http_request_header_bytes(":path").unwrap_or_default();
        if path.split(|byte| *byte == b'?').next() != Some(reply_path.as_bytes()) {
            return Action::Continue;
        }
        let (status, body) = (self.settings.reply_status, self.settings.reply_body.as_bytes());
        self.send_http_response(status, vec![], Some(body));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.set_http_response_header(&self.settings.header, Some(&self.settings.value));
        Action::Continue
    }
}
