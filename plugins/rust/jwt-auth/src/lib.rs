//! Lets only requests with a valid JSON Web Token pass, and tells the upstream whose they are.
//!
//! The law: a request without a valid token never gets on, and a client never sets the header that names the subject.

mod token;

use conf::Conf;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::rc::Rc;
use std::time::UNIX_EPOCH;
use token::{text, verify, Expected};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// As long as what HMAC SHA-256 puts out (RFC 7518 section 3.2).
const SHORTEST_SECRET: usize = 32;

struct Settings {
    secret: String,
    header: String,
    subject_header: Option<String>,
    remove_token: bool,
    expected: Expected,
}

impl Settings {
    fn parse(document: &[u8]) -> Result<Self, String> {
        let known = ["secret", "header", "subject_header", "remove_token", "issuer", "audience", "leeway_seconds"];
        let conf = Conf::parse(document, &known)?;
        let secret = conf.text("secret")?.unwrap_or_default();
        if secret.len() < SHORTEST_SECRET {
            return Err(format!("at least {SHORTEST_SECRET} bytes are expected for secret"));
        }
        let expected = Expected {
            issuer: conf.text("issuer")?,
            audience: conf.text("audience")?,
            leeway: conf.number("leeway_seconds", 0..=600)?.unwrap_or(0),
        };
        Ok(Self {
            secret,
            header: conf.name("header")?.unwrap_or("authorization".into()),
            subject_header: conf.name("subject_header")?,
            remove_token: conf.flag("remove_token")?,
            expected,
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
        self.settings = conf::read("jwt-auth", self.get_plugin_configuration(), Settings::parse);
        self.settings.is_some()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Check { settings: self.settings.clone()? }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Check {
    settings: Rc<Settings>,
}

impl Context for Check {}

impl Check {
    /// The token, where exactly one was sent: of two, the upstream might read the other one.
    fn token(&self) -> Result<String, &'static str> {
        let name = self.settings.header.to_ascii_lowercase();
        let mut sent = self.get_http_request_headers_bytes().into_iter().filter(|(field, _)| field.eq_ignore_ascii_case(&name));
        let (Some((_, value)), None) = (sent.next(), sent.next()) else { return Err("one token is expected") };
        let value = String::from_utf8(value).map_err(|_| "the token is malformed")?;
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().into()),
            Some(_) => Err("a bearer token is expected"),
            None => Ok(value),
        }
    }

    fn refuse(&self, reason: &str) -> Action {
        // RFC 6750 section 3: a request that brought nothing is told the scheme only.
        let challenge = match self.get_http_request_header_bytes(&self.settings.header) {
            Some(_) => format!("Bearer error=\"invalid_token\", error_description=\"{reason}\""),
            None => "Bearer".into(),
        };
        let fields = vec![("www-authenticate", challenge.as_str()), ("content-type", "application/json")];
        self.send_http_response(401, fields, Some(format!("{{\"error_msg\":\"{reason}\"}}\n").as_bytes()));
        Action::Pause
    }
}

impl HttpContext for Check {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let settings = self.settings.clone();
        let now = self.get_current_time().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let verified = self.token().and_then(|token| verify(&token, settings.secret.as_bytes(), &settings.expected, now));
        let claims = match verified {
            Ok(claims) => claims,
            Err(reason) => return self.refuse(reason),
        };
        if settings.remove_token {
            self.remove_http_request_header(&settings.header);
        }
        if let Some(name) = &settings.subject_header {
            // A subject that no header can carry is none.
            let subject = text(&claims, "sub").filter(|subject| !subject.bytes().any(|byte| byte.is_ascii_control()));
            self.set_http_request_header(name, subject);
        }
        Action::Continue
    }
}
