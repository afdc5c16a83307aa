//! A verdict says by what its request is known elsewhere: this machine, the server and the upstream
//! block, the request's own id and its trace. nginx's own access log is the witness of its
//! `$request_id`.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::client::{self, HOST, dial};
use tests::folder::Folder;
use tests::http2;
use tests::programs;
use tests::schema::Contract;
use tests::stage::{HEALTHY, Stage};
use tests::tracer::Tracer;

const ROUNDS: usize = 5;

/// Where the request id is from.
#[derive(Clone, Copy, PartialEq)]
enum Id {
    Nginx,
    Client,
    None,
}

/// A request that fails, and what of it a verdict has to say.
struct Asked {
    /// A location, or a server of its own.
    place: &'static str,
    port: u16,
    server: Option<&'static str>,
    block: Option<&'static str>,
    id: Id,
    /// Bytes of the id that the client sends.
    id_len: usize,
    /// How often it sends it.
    ids: usize,
    has_trace: bool,
    is_trace_right: bool,
    /// Headers before those.
    before: usize,
    is_http2: bool,
}

impl Asked {
    fn new(place: &'static str, block: Option<&'static str>, id: Id) -> Self {
        Self {
            place,
            port: 80,
            server: Some(HOST),
            block,
            id,
            id_len: 36,
            ids: 1,
            has_trace: true,
            is_trace_right: true,
            before: 0,
            is_http2: false,
        }
    }

    fn on(self, port: u16, server: Option<&'static str>) -> Self {
        Self {
            port,
            server,
            ..self
        }
    }

    fn headers(&self, number: usize) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = (0..self.before)
            .map(|at| (format!("x-other-{at}"), "x".repeat(12)))
            .collect();
        for _ in 0..self.ids {
            headers.push(("x-request-id".to_owned(), self.client_id(number)));
        }
        if self.has_trace {
            headers.push(("traceparent".to_owned(), self.trace(number)));
        }
        headers
    }

    fn client_id(&self, number: usize) -> String {
        format!("{number:0>len$}", len = self.id_len)
    }

    fn trace(&self, number: usize) -> String {
        let trace = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
        match self.is_trace_right {
            true => trace,
            false => trace.replace('-', "_"),
        }
    }

    fn ask(&self, number: usize) -> Result<u16> {
        let path = path(self.place, number);
        let headers = self.headers(number);
        let mut stream = dial(&format!("127.0.0.1:{}", self.port))?;
        if self.is_http2 {
            return http2::get_with(&mut stream, HOST, &path, &headers);
        }
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {HOST}\r\n")?;
        for (name, value) in &headers {
            // Of a name only the letters count.
            let name = name.replace("request-id", "ReQuest-ID").replace('t', "T");
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "Connection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        client::status(&answer)
    }
}

fn path(place: &str, number: usize) -> String {
    format!("/{place}/{number}")
}

/// What nginx itself says of the ids, by path.
fn computed(log: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(log)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .map(|(path, id)| (path.to_owned(), id.to_owned()))
        .collect())
}

fn all() -> Vec<Asked> {
    let app = Some("app");
    vec![
        Asked::new("block", app, Id::Nginx),
        // Nothing has evaluated nginx's own.
        Asked::new("late", app, Id::Client),
        Asked::new("address", None, Id::Nginx),
        // Which block it is a variable says.
        Asked::new("variable", app, Id::Nginx),
        Asked::new("masked", Some("retried"), Id::Nginx),
        Asked::new("returned", None, Id::Client),
        Asked {
            before: 22,
            ..Asked::new("many", app, Id::Client)
        },
        Asked {
            ids: 2,
            ..Asked::new("twice", app, Id::None)
        },
        Asked {
            id_len: 97,
            ..Asked::new("long", app, Id::None)
        },
        Asked {
            id_len: 96,
            is_trace_right: false,
            ..Asked::new("wrong", app, Id::Client)
        },
        Asked {
            ids: 0,
            has_trace: false,
            ..Asked::new("none", app, Id::None)
        },
        Asked {
            is_http2: true,
            ..Asked::new("http2", app, Id::Client).on(81, Some(HOST))
        },
        Asked::new("other", app, Id::Client).on(82, Some("other.test")),
        Asked::new("nameless", app, Id::Client).on(83, None),
    ]
}

fn check(tree: Option<PathBuf>) -> Result<()> {
    let folder = Folder::new()?;
    let log = folder.join("ids");
    std::fs::write(&log, "")?;
    let mut stage = Stage::new()?;
    stage.config.tree = tree;
    // A worker shows where its members lie at the first failure with an upstream.
    stage.config.workers = 1;
    let healthy = stage.netns.reaches(HEALTHY);
    let with_id = "proxy_set_header X-Request-ID $request_id;";
    stage.config.http = format!(
        "log_format ids '$uri $request_id';\n\
         upstream app {{ server 127.0.0.1:9001 max_fails=0; }}\n\
         upstream retried {{ zone retried 64k; server 127.0.0.1:9001 max_fails=0; server {healthy} backup; }}\n\
         server {{ listen 127.0.0.1:82; server_name other.test alias.test; location / {{ proxy_pass http://app; }} }}\n\
         server {{ listen 127.0.0.1:83; location / {{ proxy_pass http://app; }} }}\n"
    );
    let plain: String = ["late", "many", "twice", "long", "wrong", "none", "http2"]
        .map(|place| format!("location /{place}/ {{ proxy_pass http://app; }}\n"))
        .concat();
    stage.config.server = format!(
        "listen 127.0.0.1:81 http2; server_name {HOST};\n\
         access_log {} ids;\n\
         location /block/ {{ proxy_pass http://app; {with_id} }}\n\
         location /address/ {{ proxy_pass http://127.0.0.1:9001; {with_id} }}\n\
         location /variable/ {{ set $to app; proxy_pass http://$to; {with_id} }}\n\
         location /masked/ {{ proxy_pass http://retried; {with_id} }}\n\
         location /returned/ {{ return 502; }}\n{plain}",
        log.display()
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let all = all();
    for number in 0..ROUNDS {
        for asked in &all {
            let status = site.netns.enter(|| asked.ask(number))?;
            let expected = if asked.place == "masked" { 200 } else { 502 };
            ensure!(status == expected, "{}: {status}", asked.place);
        }
    }
    tracer.verdict_lines(all.len() * ROUNDS)?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(
        ended.verdicts.len() == all.len() * ROUNDS,
        "{} verdicts",
        ended.verdicts.len()
    );
    let contract = Contract::read()?;
    let computed = computed(&log)?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    for number in 0..ROUNDS {
        for asked in &all {
            let path = path(asked.place, number);
            let line = format!("GET {path} HTTP/");
            let is_it = |verdict: &&Value| {
                let request = &verdict["request"]["line"];
                request.as_str().is_some_and(|text| text.starts_with(&line))
            };
            let mut own = ended.verdicts.iter().filter(is_it);
            let verdict = own
                .next()
                .with_context(|| format!("no verdict on {path}"))?;
            ensure!(own.next().is_none(), "two verdicts on {path}");
            let errors = contract.errors(verdict);
            ensure!(errors.is_empty(), "{errors:#?} in {verdict}");
            let id = match asked.id {
                Id::Nginx => computed.get(&path).cloned(),
                Id::Client => Some(asked.client_id(number)),
                Id::None => None,
            };
            ensure!(asked.id != Id::Nginx || id.is_some(), "nginx logged no id");
            let has_trace = asked.has_trace && asked.is_trace_right;
            let trace = has_trace.then(|| asked.trace(number));
            let said = json!([
                verdict["host"],
                verdict["upstream_name"],
                verdict["request"]["server_name"],
                verdict["request"]["request_id"],
                verdict["request"]["traceparent"]
            ]);
            let expected = json!([hostname.trim(), asked.block, asked.server, id, trace]);
            ensure!(said == expected, "{said} is not {expected} in {verdict}");
        }
    }
    Ok(())
}

#[test]
fn a_verdict_names_its_request_as_others_know_it() -> Result<()> {
    check(None)
}

/// The members that say so lie elsewhere in each version.
#[test]
fn in_every_version() -> Result<()> {
    for suite in ["bullseye", "bookworm", "trixie", "sid"] {
        match programs::suite(suite) {
            Some(tree) => {
                check(Some(tree)).with_context(|| format!("the nginx of Debian {suite}"))?;
            }
            None => println!("SKIPPED: in_every_version: no nginx of Debian {suite}"),
        }
    }
    Ok(())
}
