//! JSON Web Tokens signed with HMAC SHA-256: what a token claims, once everything about it was checked.
//!
//! The law: the algorithm is ours, never the token's word (RFC 8725 section 3.1), and nothing that an unverified part says is
//! looked at before the signature was. Every refusal is a sentence that may be told to the client.

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use hmac_sha256::HMAC;
use std::collections::HashMap;
use tinyjson::JsonValue;

pub type Claims = HashMap<String, JsonValue>;

/// What a token must say besides being signed.
pub struct Expected {
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway: u32,
}

pub fn verify(token: &str, secret: &[u8], expected: &Expected, now: f64) -> Result<Claims, &'static str> {
    let malformed = "the token is malformed";
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(malformed)?;
    let signature: [u8; 32] = decode(signature).and_then(|bytes| bytes.try_into().ok()).ok_or("the signature is wrong")?;
    if !HMAC::verify(signed, secret, &signature) {
        return Err("the signature is wrong");
    }
    let header = object(header).ok_or(malformed)?;
    if text(&header, "alg") != Some("HS256") || header.contains_key("crit") {
        return Err("the token is of an unknown kind");
    }
    let claims = object(payload).ok_or(malformed)?;
    check(&claims, expected, now)?;
    Ok(claims)
}

fn check(claims: &Claims, expected: &Expected, now: f64) -> Result<(), &'static str> {
    let leeway = f64::from(expected.leeway);
    match claims.get("exp") {
        Some(JsonValue::Number(end)) if now < end + leeway => (),
        Some(JsonValue::Number(_)) => return Err("the token has expired"),
        _ => return Err("the token has no expiry"),
    }
    match claims.get("nbf") {
        None => (),
        Some(JsonValue::Number(begin)) if *begin <= now + leeway => (),
        _ => return Err("the token is not valid yet"),
    }
    if expected.issuer.is_some() && expected.issuer.as_deref() != text(claims, "iss") {
        return Err("the token is of another issuer");
    }
    match &expected.audience {
        Some(audience) if !is_meant_for(claims, audience) => Err("the token is meant for somebody else"),
        _ => Ok(()),
    }
}

/// `aud` is one text or a list (RFC 7519 section 4.1.3).
fn is_meant_for(claims: &Claims, audience: &str) -> bool {
    match claims.get("aud") {
        Some(JsonValue::String(one)) => one == audience,
        Some(JsonValue::Array(several)) => several.iter().any(|one| one.get::<String>().is_some_and(|one| one == audience)),
        _ => false,
    }
}

pub fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name)?.get::<String>().map(String::as_str)
}

fn decode(part: &str) -> Option<Vec<u8>> {
    Base64UrlSafeNoPadding::decode_to_vec(part, None).ok()
}

fn object(part: &str) -> Option<Claims> {
    let value: JsonValue = String::from_utf8(decode(part)?).ok()?.parse().ok()?;
    value.get::<Claims>().cloned()
}
