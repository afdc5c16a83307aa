//! Attributes, as OTLP's JSON has them. Where OpenTelemetry's semantic conventions have a name it
//! is that; others begin with `tracer.`.

use serde::Serialize;

use crate::clean;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "boolValue")]
    Bool(bool),
    /// 64 bits are written as text.
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "arrayValue")]
    List(List),
}

/// Several values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct List {
    values: Vec<Value>,
}

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Attribute {
    key: &'static str,
    value: Value,
}

/// A list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Attributes(Vec<Attribute>);

impl Attributes {
    fn push(mut self, key: &'static str, value: Value) -> Self {
        self.0.push(Attribute { key, value });
        self
    }

    /// A text of others, cut; left out where there is none.
    pub(super) fn text(self, key: &'static str, text: Option<&str>) -> Self {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => self.push(key, Value::Text(clean::cut(text))),
            None => self,
        }
    }

    pub(super) fn number(self, key: &'static str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.push(key, Value::Number(number.to_string())),
            None => self,
        }
    }

    pub(super) fn flag(self, key: &'static str, flag: bool) -> Self {
        self.push(key, Value::Bool(flag))
    }

    pub(super) fn list<'a>(
        self,
        key: &'static str,
        texts: impl Iterator<Item = &'a String>,
    ) -> Self {
        let values: Vec<Value> = texts.map(|text| Value::Text(clean::cut(text))).collect();
        match values.is_empty() {
            true => self,
            false => self.push(key, Value::List(List { values })),
        }
    }

    /// A peer, `IP:port`, `[v6]:port`, `NAME:port` or `unix:/path`, as `server.address` and
    /// `server.port`.
    pub(super) fn server(self, peer: Option<&str>) -> Self {
        let Some(peer) = peer else {
            return self;
        };
        if let Some(path) = peer.strip_prefix("unix:") {
            let with = self.text("server.address", Some(path));
            return with.text("network.transport", Some("unix"));
        }
        let (host, port) = match peer.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok())
            }
            _ => (peer, None),
        };
        let with = self.text("server.address", Some(host.trim_matches(['[', ']'])));
        with.number("server.port", port)
    }

    /// What a request line names: `GET /a?b HTTP/1.1`.
    pub(super) fn request_line(self, line: Option<&str>) -> Self {
        let Some((method, rest)) = line.and_then(|line| line.split_once(' ')) else {
            return self;
        };
        let (target, version) = match rest.rsplit_once(" HTTP/") {
            Some((target, version)) => (target, Some(version)),
            // It was cut.
            None => (rest, None),
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        self.text("http.request.method", Some(method))
            .text("url.path", Some(path))
            .text("url.query", query)
            .text("network.protocol.version", version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(attributes: &Attributes) -> String {
        let pairs = attributes.0.iter().map(|Attribute { key, value }| {
            let value = serde_json::to_string(value).expect("JSON");
            format!("{key}={value}")
        });
        pairs.collect::<Vec<_>>().join(" ").replace("\":\"", ":")
    }

    #[test]
    fn a_peer_is_an_address_and_a_port_or_a_path() {
        let of = |peer| json(&Attributes::default().server(Some(peer)));
        let both = |address: &str, port: &str| {
            format!(
                r#"server.address={{"stringValue:{address}"}} server.port={{"intValue:{port}"}}"#
            )
        };
        assert_eq!(of("10.0.0.7:80"), both("10.0.0.7", "80"));
        assert_eq!(of("[::1]:3000"), both("::1", "3000"));
        assert_eq!(of("shop.test:81"), both("shop.test", "81"));
        let alone = |address: &str| format!(r#"server.address={{"stringValue:{address}"}}"#);
        assert_eq!(of("shop.test"), alone("shop.test"));
        assert_eq!(of("::1"), alone("::1"));
        let path = alone("/run/app.sock");
        assert_eq!(
            of("unix:/run/app.sock"),
            format!(r#"{path} network.transport={{"stringValue:unix"}}"#)
        );
    }

    #[test]
    fn a_request_line_is_taken_apart_as_far_as_it_goes() {
        let of = |line| json(&Attributes::default().request_line(Some(line)));
        let text = |key: &str, text: &str| format!(r#"{key}={{"stringValue:{text}"}}"#);
        let method = text("http.request.method", "GET");
        assert_eq!(
            of("GET /a b?c=d HTTP/1.1"),
            [
                method.clone(),
                text("url.path", "/a b"),
                text("url.query", "c=d"),
                text("network.protocol.version", "1.1")
            ]
            .join(" ")
        );
        assert_eq!(
            of("GET /cut"),
            format!("{method} {}", text("url.path", "/cut"))
        );
        assert_eq!(of("nothing"), "");
    }
}
