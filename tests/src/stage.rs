//! The one fixture that most tests use: a namespace, a healthy backend, nginx with faulty and
//! healthy locations, the tracer on it, mixed requests, and the check of every verdict.
//!
//! A check fails on: a client that did not get the expected status, an error log that shows another
//! fault than the intended one, a failed request without a verdict or with two, a verdict that
//! differs anywhere from what was expected, a verdict on a healthy request, a tracer that ends with
//! a failure.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::backend::{Backend, Protocol};
use crate::client::Front;
use crate::container::Placement;
use crate::expected::Expected;
use crate::netns::Netns;
use crate::nginx::{Config, Form, Nginx};
use crate::site::{Site, Witness};
use crate::tracer::Tracer;

/// Where the healthy backend listens.
pub const HEALTHY: &str = "127.0.0.1:8000";

/// A location of nginx that fails, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The directives of the location.
    pub location: String,
    /// Directives of `http` that it needs.
    pub http: String,
    /// The requests' method.
    pub method: &'static str,
    /// Bytes of their bodies.
    pub body: usize,
    /// The verdict on each of its requests.
    pub expected: Expected,
}

impl Fault {
    /// `proxy_pass` to the expected upstream; `directives` come along.
    pub fn proxy(expected: Expected, directives: &str) -> Self {
        let upstream = expected.upstream.clone().unwrap_or_default();
        Self::location(
            format!("proxy_pass http://{upstream}; {directives}"),
            expected,
        )
    }

    /// A location with these directives.
    pub fn location(location: impl Into<String>, expected: Expected) -> Self {
        Self {
            location: location.into(),
            http: String::new(),
            method: "GET",
            body: 0,
            expected,
        }
    }

    /// The requests are POSTs with so many bytes of body.
    pub fn post(mut self, body: usize) -> Self {
        self.method = "POST";
        self.body = body;
        self
    }

    /// `http` comes along with these directives.
    pub fn with(mut self, http: impl Into<String>) -> Self {
        self.http = http.into();
        self
    }

    /// `proxy_pass` to a group of these servers; `name` has to be the test's only one.
    pub fn group(name: &str, servers: &[&str], expected: Expected) -> Self {
        let servers: String = servers
            .iter()
            .map(|server| format!("server {server} max_fails=0; "))
            .collect();
        Self {
            location: format!("proxy_pass http://{name};"),
            http: format!("upstream {name} {{ zone {name} 64k; {servers} }}\n"),
            method: "GET",
            body: 0,
            expected,
        }
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Failing requests for each fault.
    pub failing: usize,
    /// Healthy requests.
    pub healthy: usize,
    /// Requests at a time.
    pub concurrency: usize,
    /// How the client reaches nginx.
    pub front: Front,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            failing: 5,
            healthy: 5,
            concurrency: 2,
            front: Front::Http,
        }
    }
}

type Prepare = Box<dyn FnOnce(&mut Command) -> Result<()>>;

/// A namespace with a healthy backend, and the nginx to be started in it.
pub struct Stage {
    /// Where everything of the test happens.
    pub netns: Netns,
    /// nginx's configuration but for the faults' locations.
    pub config: Config,
    /// Directives of the healthy location.
    pub healthy: String,
    image: Option<PathBuf>,
    prepare: Prepare,
    backend: Backend,
}

impl Stage {
    /// Makes the namespace and the healthy backend. nginx will be a daemon where its backends are
    /// behind a bridge, so that these scenarios run in both forms.
    pub fn new() -> Result<Self> {
        let mut netns = Netns::new()?;
        let placement = Placement::of_this_program();
        netns.place_backends(placement)?;
        let form = match placement {
            Placement::Bridge => Form::Daemon,
            Placement::Loopback | Placement::Nat => Form::Foreground,
        };
        Ok(Self {
            backend: Backend::new(&netns, HEALTHY, Protocol::Http)?,
            netns,
            config: Config {
                form,
                ..Config::default()
            },
            healthy: format!("proxy_pass http://{HEALTHY};"),
            image: None,
            prepare: Box::new(|_| Ok(())),
        })
    }

    /// Has `prepare` look at nginx's command before it starts.
    pub fn prepare(&mut self, prepare: impl FnOnce(&mut Command) -> Result<()> + 'static) {
        self.prepare = Box::new(prepare);
    }

    /// Starts nginx in pid and mount namespaces of its own, its binary in a file system that only
    /// they have, mounted on the folder `image`.
    pub fn contain(&mut self, image: &Path) {
        self.image = Some(image.to_owned());
    }

    /// Starts nginx with these faults, not the tracer.
    pub fn start(mut self, faults: Vec<Fault>) -> Result<Site> {
        let prepare = std::mem::replace(&mut self.prepare, Box::new(|_| Ok(())));
        let faults = self.arrange(faults);
        let nginx = match &self.image {
            Some(image) => Nginx::start_contained(&self.netns, &self.config, image, prepare)?,
            None => Nginx::start(&self.netns, &self.config, prepare)?,
        };
        Ok(self.site(nginx, faults))
    }

    /// Starts nginx with these faults after `before` has seen the process that will be its master.
    pub fn start_after(
        mut self,
        faults: Vec<Fault>,
        before: impl FnOnce(u32) -> Result<()>,
    ) -> Result<Site> {
        let faults = self.arrange(faults);
        let nginx = Nginx::start_after(&self.netns, &self.config, before)?;
        Ok(self.site(nginx, faults))
    }

    /// Writes the locations, with the faults as they are where their backends run.
    fn arrange(&mut self, faults: Vec<Fault>) -> Vec<Fault> {
        let netns = &self.netns;
        let faults = faults.into_iter().map(|fault| Fault {
            location: netns.reaches(&fault.location),
            http: netns.reaches(&fault.http),
            expected: fault.expected.placed(netns),
            ..fault
        });
        let faults: Vec<Fault> = faults.collect();
        let config = &mut self.config;
        for text in [&mut config.main, &mut config.http, &mut config.server] {
            *text = netns.reaches(text);
        }
        let healthy = netns.reaches(&self.healthy);
        let _ = writeln!(config.server, "location /ok/ {{ {healthy} }}");
        for (index, fault) in faults.iter().enumerate() {
            config.http.push_str(&fault.http);
            let location = &fault.location;
            let _ = writeln!(config.server, "location /fail{index}/ {{ {location} }}");
        }
        faults
    }

    fn site(self, nginx: Nginx, faults: Vec<Fault>) -> Site {
        let witness = Witness {
            contained: self.image.is_some(),
            logs: self.config.error_log.is_none(),
        };
        Site::new(nginx, self.netns, faults, witness, self.backend)
    }

    /// Starts nginx with these faults and the tracer, sends the load and checks every verdict,
    /// which it gives.
    pub fn check_with(self, faults: Vec<Fault>, load: Load) -> Result<Vec<Value>> {
        let site = self.start(faults)?;
        let tracer = Tracer::follow(site.nginx.master)?;
        let sent = site.send(load)?;
        site.check(&sent, tracer)
    }

    /// [`Stage::check_with`] the usual load.
    pub fn check(self, faults: Vec<Fault>) -> Result<Vec<Value>> {
        self.check_with(faults, Load::default())
    }
}
