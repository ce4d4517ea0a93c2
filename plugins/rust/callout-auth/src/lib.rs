//! Asks another service about each request before it goes on.
//!
//! The law: a request goes on only after the service answered 2xx; what else it answers goes to the client, and without an
//! answer the client gets 503, unless the configuration says that such requests pass.

use conf::Conf;
use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

struct Settings {
    upstream: String,
    authority: String,
    path: String,
    timeout: Duration,
    send_headers: Vec<String>,
    upstream_headers: Vec<String>,
    client_headers: Vec<String>,
    pass_without_answer: bool,
}

impl Settings {
    fn parse(document: &[u8]) -> Result<Self, String> {
        let conf = Conf::parse(
            document,
            &[
                "upstream",
                "authority",
                "path",
                "timeout_ms",
                "send_headers",
                "upstream_headers",
                "client_headers",
                "pass_without_answer",
            ],
        )?;
        let upstream = conf.required("upstream")?;
        Ok(Self {
            authority: conf.text("authority")?.unwrap_or(upstream.clone()),
            upstream,
            path: conf.path("path")?.unwrap_or("/".into()),
            timeout: Duration::from_millis(conf.number("timeout_ms", 1..=60_000)?.unwrap_or(1000).into()),
            send_headers: conf.names("send_headers")?,
            upstream_headers: conf.names("upstream_headers")?,
            client_headers: conf.names("client_headers")?,
            pass_without_answer: conf.flag("pass_without_answer")?,
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
        self.settings = conf::read("callout-auth", self.get_plugin_configuration(), Settings::parse);
        self.settings.is_some()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Question { settings: self.settings.clone()? }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Question {
    settings: Rc<Settings>,
}

impl Question {
    /// What the service learns: the request line under names of its own, and the headers that the configuration lists.
    fn fields(&self) -> Vec<(String, String)> {
        let mut fields = vec![
            (":method".into(), "GET".into()),
            (":path".into(), self.settings.path.clone()),
            (":authority".into(), self.settings.authority.clone()),
        ];
        let line = [(":method", "x-original-method"), (":path", "x-original-uri"), (":authority", "x-original-host")];
        let listed = self.settings.send_headers.iter().map(|name| (name.as_str(), name.as_str()));
        for (name, sent_as) in line.into_iter().chain(listed) {
            // As bytes: the SDK's other function traps on a value that is no UTF-8, and can only send what is.
            let value = self.get_http_request_header_bytes(name).and_then(|value| String::from_utf8(value).ok());
            fields.extend(value.map(|value| (sent_as.to_ascii_lowercase(), value)));
        }
        fields
    }

    fn without_answer(&self, reason: &str) -> Action {
        if self.settings.pass_without_answer {
            let _ = log(LogLevel::Warn, &format!("callout-auth: {reason}; the request passes"));
            return Action::Continue;
        }
        let _ = log(LogLevel::Error, &format!("callout-auth: {reason}"));
        let fields = vec![("content-type", "application/json")];
        self.send_http_response(503, fields, Some(b"{\"error_msg\":\"the request could not be authorised\"}\n"));
        Action::Pause
    }

    fn answered(&self, name: &str) -> Option<String> {
        String::from_utf8(self.get_http_call_response_header_bytes(name)?).ok()
    }

    fn refuse(&self, status: u32, body_size: usize) {
        let body = self.get_http_call_response_body(0, body_size);
        let answered = self.settings.client_headers.iter();
        let fields: Vec<_> = answered.filter_map(|name| Some((name, self.answered(name)?))).collect();
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send_http_response(status, fields, body.as_deref());
    }
}

impl Context for Question {
    fn on_http_call_response(&mut self, _token: u32, _count: usize, body_size: usize, _trailers: usize) {
        let status = self.answered(":status").and_then(|status| status.parse().ok());
        match status {
            Some(200..=299) => {
                for name in &self.settings.upstream_headers {
                    let value = self.get_http_call_response_header_bytes(name);
                    self.set_http_request_header_bytes(name, value.as_deref());
                }
                self.resume_http_request();
            }
            Some(status @ 300..=599) => self.refuse(status, body_size),
            _ => {
                if self.without_answer("the service did not answer") == Action::Continue {
                    self.resume_http_request();
                }
            }
        }
    }
}

impl HttpContext for Question {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let fields = self.fields();
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match self.dispatch_http_call(&self.settings.upstream, fields, None, vec![], self.settings.timeout) {
            Ok(_) => Action::Pause,
            Err(status) => self.without_answer(&format!("the service cannot be asked ({status:?})")),
        }
    }
}
