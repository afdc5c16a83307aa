//! The commonest failures of each backend program that tracer knows by name, on the real programs:
//! none runs, its worker is killed, its supervisor ends a request that takes too long, it is
//! restarted, all of its workers are busy. Each verdict's advice names the program's own setting.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::netns::Netns;
use tests::process;
use tests::site::Sent;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::upstream::{Listen, Upstream};
use tests::wait::{PATIENCE, until};

const ADDRESS: &str = "127.0.0.1:9001";
const CLOSED: &str =
    "upstream prematurely closed connection while reading response header | (104: Connection reset";

/// How a program is run; `{settings}` is where a fault's own settings go.
struct Program {
    /// The name of its processes.
    name: &'static str,
    /// nginx's directive.
    pass: &'static str,
    words: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// Its first process starts others that serve.
    has_workers: bool,
    /// The settings that most of its faults need.
    usual: &'static str,
}

/// What happens to it.
#[derive(Clone, Copy)]
enum Fate {
    /// It has ended before nginx asks.
    Down,
    /// Who serves is killed.
    Killed,
    /// Its own supervisor ends a request after a time, by these settings.
    Overtime(&'static str),
    /// It gets these signals in the middle of a request, and has these settings.
    Restarted(&'static [i32], &'static str),
    /// More requests come than it has workers for.
    Full,
}

/// Answers too late, and says that it serves.
const WSGI: &str = "\
import sys, time
def application(environ, start):
    print('serving', file=sys.stderr, flush=True)
    time.sleep(30)
";

const GUNICORN: Program = Program {
    name: "gunicorn",
    pass: "proxy_pass http://@;",
    words: "gunicorn -b 127.0.0.1:9001 -w 2 {settings} app:application",
    files: &[("app.py", WSGI)],
    has_workers: true,
    usual: "",
};

#[test]
fn gunicorn() -> Result<()> {
    GUNICORN.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "gunicorn"),
        (Fate::Overtime("--timeout 2"), "gunicorn --timeout"),
        (
            Fate::Restarted(&[libc::SIGTERM], "--graceful-timeout 1"),
            "gunicorn --graceful-timeout",
        ),
        (Fate::Full, "gunicorn --workers"),
    ])
}

const UWSGI: Program = Program {
    name: "uwsgi",
    pass: "uwsgi_param REQUEST_METHOD GET; uwsgi_param PATH_INFO /; uwsgi_pass @;",
    words: "uwsgi-core --plugin python311 --socket 127.0.0.1:9001 --master --processes 2 --wsgi-file app.py {settings}",
    files: &[("app.py", WSGI)],
    has_workers: true,
    usual: "",
};

#[test]
fn uwsgi() -> Result<()> {
    UWSGI.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "uwsgi"),
        (Fate::Overtime("--harakiri 1"), "uwsgi --harakiri"),
        (
            Fate::Restarted(&[libc::SIGHUP], "--worker-reload-mercy 1 --reload-mercy 1"),
            "uwsgi --worker-reload-mercy",
        ),
        (Fate::Full, "uwsgi --processes"),
    ])
}

/// Blocking code in an async handler: nothing of its loop runs.
const UVICORN: Program = Program {
    name: "uvicorn",
    pass: "proxy_pass http://@;",
    words: "uvicorn --host 127.0.0.1 --port 9001 --lifespan off app:app",
    files: &[(
        "app.py",
        "import time\n\
         async def app(scope, receive, send):\n    \
             print('serving', flush=True)\n    \
             time.sleep(30)\n",
    )],
    has_workers: false,
    usual: "",
};

#[test]
fn uvicorn() -> Result<()> {
    UVICORN.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "uvicorn"),
        // As `docker stop` does where the program does not end.
        (
            Fate::Restarted(&[libc::SIGTERM, libc::SIGKILL], ""),
            "uvicorn --timeout-graceful-shutdown",
        ),
        (Fate::Full, "uvicorn --workers; blocking code"),
    ])
}

const PHP_FPM: Program = Program {
    name: "php-fpm8.2",
    pass: "fastcgi_param SCRIPT_FILENAME {}/x.php; fastcgi_param REQUEST_METHOD GET; fastcgi_pass @;",
    words: "php-fpm8.2 -y {}/pool.conf",
    files: &[
        (
            "pool.conf",
            "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\nuser = nobody\ngroup = nogroup\n\
             listen = 127.0.0.1:9001\npm = static\npm.max_children = 2\ncatch_workers_output = yes\n{settings}\n",
        ),
        // A signal ends PHP's sleep() early.
        (
            "x.php",
            "<?php error_log('serving'); while (true) { sleep(30); }",
        ),
    ],
    has_workers: true,
    usual: "",
};

#[test]
fn php_fpm() -> Result<()> {
    PHP_FPM.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "php-fpm"),
        (
            Fate::Overtime("request_terminate_timeout = 1s"),
            "request_terminate_timeout in its pool",
        ),
        (
            Fate::Restarted(&[libc::SIGUSR2], ""),
            "process_control_timeout in php-fpm.conf",
        ),
        (Fate::Full, "pm.max_children in its pool"),
    ])
}

/// Synchronous code stops its loop; or it waits, and closes at SIGTERM what it serves.
const NODE: Program = Program {
    name: "node",
    pass: "proxy_pass http://@;",
    words: "node app.js {settings}",
    files: &[(
        "app.js",
        "const server = require('http').createServer(() => {\n\
           require('fs').writeSync(1, 'serving\\n');\n\
           if (process.argv[2] === 'blocks') {\n\
             Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30000);\n\
           }\n\
         }).listen(9001, '127.0.0.1');\n\
         process.on('SIGTERM', () => { server.closeAllConnections(); process.exit(0); });\n",
    )],
    has_workers: false,
    usual: "blocks",
};

#[test]
fn node() -> Result<()> {
    NODE.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "node"),
        (
            Fate::Restarted(&[libc::SIGTERM], "waits"),
            "on SIGTERM call server.close()",
        ),
        (Fate::Full, "synchronous code stops it"),
    ])
}

const PUMA: Program = Program {
    name: "puma",
    pass: "proxy_pass http://@;",
    words: "puma -C {}/puma.rb -b tcp://127.0.0.1:9001 {}/config.ru",
    files: &[
        (
            "config.ru",
            "run ->(env) { STDERR.puts 'serving'; STDERR.flush; $stop and Process.kill(:STOP, Process.pid); sleep 30 }\n",
        ),
        (
            "puma.rb",
            "workers 2\nthreads 1, 1\nworker_check_interval 1\n{settings}\n",
        ),
    ],
    has_workers: true,
    usual: "",
};

#[test]
fn puma() -> Result<()> {
    PUMA.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "puma"),
        (
            // Its other threads check in while one is busy, unless the whole process stops.
            Fate::Overtime("worker_timeout 2\n$stop = true"),
            "worker_timeout in puma.rb",
        ),
        (
            Fate::Restarted(&[libc::SIGTERM], "worker_shutdown_timeout 1"),
            "worker_shutdown_timeout",
        ),
        (Fate::Full, "workers and threads in puma.rb"),
    ])
}

const TOMCAT: Program = Program {
    name: "java",
    pass: "proxy_pass http://@/x.jsp?;",
    words: "/usr/lib/jvm/java-17-openjdk-amd64/bin/java -XX:TieredStopAtLevel=1 -cp /usr/share/java/* \
            -Dcatalina.base={} -Dcatalina.home={} org.apache.catalina.startup.Bootstrap start",
    files: &[
        (
            "conf/server.xml",
            "<Server port='-1'><Service name='x'>\
             <Connector port='9001' address='127.0.0.1' bindOnInit='false' maxThreads='2' maxConnections='2'/>\
             <Engine name='x' defaultHost='localhost'><Host name='localhost' appBase='webapps'/></Engine>\
             </Service></Server>",
        ),
        (
            "conf/context.xml",
            "<Context><JarScanner scanClassPath='false'/></Context>",
        ),
        (
            "conf/web.xml",
            "<web-app metadata-complete='true'><servlet><servlet-name>jsp</servlet-name>\
             <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class></servlet>\
             <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>/*</url-pattern></servlet-mapping></web-app>",
        ),
        (
            "webapps/ROOT/x.jsp",
            "<% System.err.println(\"serving\"); Thread.sleep(30000); %>",
        ),
    ],
    has_workers: false,
    usual: "",
};

#[test]
fn tomcat() -> Result<()> {
    TOMCAT.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "java"),
        (Fate::Restarted(&[libc::SIGTERM], ""), "Tomcat: unloadDelay"),
        (Fate::Full, "Tomcat: maxThreads in its Connector"),
    ])
}

const APACHE: Program = Program {
    name: "apache2",
    pass: "proxy_pass http://@;",
    words: "sh run",
    files: &[
        (
            "run",
            "chmod 755 . slow\n\
             exec apache2 -d . -f apache.conf -c \"ScriptAliasMatch .* $PWD/slow\" -DFOREGROUND\n",
        ),
        ("slow", "#!/bin/sh\necho serving >&2\nsleep 30\n"),
        (
            "apache.conf",
            "ServerName x\nListen 127.0.0.1:9001\nUser nobody\nGroup nogroup\nErrorLog /dev/stderr\n\
             PidFile apache.pid\nDefaultRuntimeDir .\n\
             LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\n\
             LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
             LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\n\
             LoadModule cgi_module /usr/lib/apache2/modules/mod_cgi.so\n\
             StartServers 2\nMinSpareServers 1\nServerLimit 2\nMaxRequestWorkers 2\n\
             <Directory />\nOptions ExecCGI\n</Directory>\n",
        ),
    ],
    has_workers: true,
    usual: "",
};

#[test]
fn apache() -> Result<()> {
    APACHE.check(&[
        (Fate::Down, ""),
        (Fate::Killed, "apache2"),
        (Fate::Restarted(&[libc::SIGHUP], ""), "apachectl graceful"),
        (Fate::Full, "MaxRequestWorkers"),
    ])
}

impl Program {
    /// Each fate with what the verdicts have to say.
    fn check(&self, rows: &[(Fate, &str)]) -> Result<()> {
        for (row, (fate, says)) in rows.iter().enumerate() {
            self.meets(*fate, says)
                .with_context(|| format!("{}, row {row}: {says:?}", self.name))?;
        }
        Ok(())
    }

    fn start(&self, netns: &Netns, settings: &str) -> Result<Upstream> {
        let words = self.words.replace("{settings}", settings);
        let words: Vec<&str> = words.split_whitespace().collect();
        let files: Vec<(&str, String)> = self
            .files
            .iter()
            .map(|(name, text)| (*name, text.replace("{settings}", settings)))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        Upstream::start(netns, &words, &files, &Listen::Tcp(ADDRESS.to_owned()))
    }

    /// The location that passes to it.
    fn fault(&self, backend: &Upstream, expected: Expected) -> Fault {
        let folder = backend.folder().display().to_string();
        let pass = self.pass.replace('@', ADDRESS).replace("{}", &folder);
        Fault::location(pass, expected)
    }

    fn meets(&self, fate: Fate, says: &str) -> Result<()> {
        let died = || {
            let died = Expected::connected("backend-died", ADDRESS, CLOSED);
            died.or_errno(Some("ECONNRESET")).says(says)
        };
        let stage = Stage::new()?;
        let settings = match fate {
            Fate::Overtime(settings) | Fate::Restarted(_, settings) => settings,
            Fate::Down | Fate::Killed | Fate::Full => self.usual,
        };
        let mut backend = self.start(&stage.netns, settings)?;
        match fate {
            Fate::Down => {
                let expected = Expected::new("no-listener", ADDRESS, "ECONNREFUSED");
                let fault = self.fault(&backend, expected);
                backend.signal(libc::SIGKILL);
                backend.ended()?;
                // Its workers notice that it is gone.
                drop(backend);
                stage.check(vec![fault]).map(drop)
            }
            Fate::Overtime(_) => {
                // On a busy host an interpreter may take longer to exit than a case waits for it.
                let fault = self.fault(&backend, died().at_best_proven());
                let verdicts = stage.check(vec![fault])?;
                let is_proven = |verdict: &Value| verdict["confidence"] == "proven";
                ensure!(
                    verdicts.iter().any(is_proven),
                    "none is proven: {verdicts:?}"
                );
                for verdict in verdicts.iter().filter(|verdict| !is_proven(verdict)) {
                    let evidence = verdict["evidence"].to_string();
                    ensure!(evidence.contains("no exit of it was seen"), "{verdict}");
                }
                Ok(())
            }
            Fate::Killed => {
                let expected = died().says(format!("SIGKILL from {} (pid", process::own_name()));
                let kills = |backend: &Upstream| {
                    let serving = match self.has_workers {
                        true => backend.children(),
                        false => vec![backend.pid()],
                    };
                    for pid in serving {
                        process::signal(pid, libc::SIGKILL);
                    }
                };
                let ends = !self.has_workers;
                self.in_the_middle(stage, backend, expected, (settings, ends), kills)
            }
            Fate::Restarted(signals, _) => {
                let expected = died().says(format!("from {} (pid", process::own_name()));
                let restarts = |backend: &Upstream| {
                    for signal in signals {
                        backend.signal(*signal);
                    }
                };
                let ends = signals[0] == libc::SIGTERM;
                self.in_the_middle(stage, backend, expected, (settings, ends), restarts)
            }
            Fate::Full => self.is_full(stage, &backend, says),
        }
    }

    /// While each request is served, `act` is done to the program; if that `ends` it, it is started
    /// again.
    fn in_the_middle(
        &self,
        stage: Stage,
        mut backend: Upstream,
        expected: Expected,
        (settings, ends): (&str, bool),
        act: impl Fn(&Upstream),
    ) -> Result<()> {
        const ROUNDS: usize = 3;
        let site = stage.start(vec![self.fault(&backend, expected)])?;
        let tracer = Tracer::follow(site.nginx.master)?;
        let mut sent = Sent::default();
        let load = Load {
            failing: 1,
            healthy: 1,
            ..Load::default()
        };
        let mut served = 0;
        for round in 0..ROUNDS {
            served += 1;
            sent.extend(std::thread::scope(|scope| {
                let sender = scope.spawn(|| site.send(load));
                let is_served = self.serves(&backend, served);
                act(&backend);
                let sent = sender.join();
                is_served.and(sent.unwrap_or_else(|_| Err(anyhow!("a sender panicked"))))
            })?);
            if ends && round + 1 < ROUNDS {
                backend.ended()?;
                backend = self.start(&site.netns, settings)?;
                served = 0;
            }
        }
        site.check(&sent, tracer).map(drop)
    }

    /// Waits until it has begun to serve so many requests.
    fn serves(&self, backend: &Upstream, count: usize) -> Result<()> {
        until("a request that is served", PATIENCE, || {
            Ok((backend.output().matches("serving").count() >= count).then_some(()))
        })
        .with_context(|| backend.output())
    }

    /// The requests that nobody accepts have the advice; those that are served are slow.
    fn is_full(&self, stage: Stage, backend: &Upstream, says: &str) -> Result<()> {
        let mut expected = Expected::timeout("backend-not-accepting", ADDRESS).or_errno(None);
        // Of what is accepted late, or all at once, it is not seen when.
        expected.or_cause.push("backend-slow");
        let mut expected = expected.at_best_proven();
        expected.logged =
            vec!["upstream timed out (110: Connection timed out) while reading".into()];
        let mut fault = self.fault(backend, expected);
        let timers =
            ["proxy", "fastcgi", "uwsgi"].map(|kind| format!(" {kind}_read_timeout 1500ms;"));
        fault.location.push_str(&timers.concat());
        let site = stage.start(vec![fault])?;
        let tracer = Tracer::follow(site.nginx.master)?;
        let load = |failing| Load {
            failing,
            concurrency: failing,
            ..Load::default()
        };
        let sent = std::thread::scope(|scope| -> Result<Sent> {
            let first = scope.spawn(|| site.send(load(2)));
            // What comes now finds nobody who accepts it.
            self.serves(backend, 1)?;
            let then = site.send(load(6));
            let first = first.join();
            let mut sent = then?;
            sent.extend(first.unwrap_or_else(|_| Err(anyhow!("a sender panicked")))?);
            Ok(sent)
        })?;
        let verdicts = site.check(&sent, tracer)?;
        let waits = |verdict: &&Value| verdict["cause"] == "backend-not-accepting";
        let waits: Vec<&Value> = verdicts.iter().filter(waits).collect();
        ensure!(!waits.is_empty(), "all were accepted: {verdicts:?}");
        for verdict in waits {
            let is_right =
                verdict["confidence"] == "proven" && verdict["advice"].to_string().contains(says);
            ensure!(is_right, "{says:?}: {verdict}");
        }
        Ok(())
    }
}
