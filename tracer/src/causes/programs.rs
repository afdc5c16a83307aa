//! The settings of backends that are known by their process's name. Of any other nothing is said: a
//! list of guesses helps nobody.

/// A program and its own names for things; an empty text where it has no such setting.
#[derive(Debug)]
pub(super) struct Program {
    /// What its process's name begins with.
    names: &'static [&'static str],
    /// How long it keeps idle connections.
    pub(super) keep_alive: &'static str,
    /// How much it does at once.
    pub(super) workers: &'static str,
    /// The backlog that it gives to `listen()`.
    pub(super) backlog: &'static str,
    /// What ends or shows a request that takes too long.
    pub(super) limit: &'static str,
    /// The signals by which its master does that.
    pub(super) ends_by: &'static [u8],
    /// What its log says as it ends one.
    pub(super) says: &'static str,
    /// What lets it finish its requests as it stops or reloads.
    pub(super) graceful: &'static str,
    /// What sets the group and mode of its unix socket.
    pub(super) socket: &'static str,
    /// What to check where it closes without reading; `{}` stands for the address that it sees.
    pub(super) unread: &'static str,
    /// That depends on the address.
    pub(super) is_by_address: bool,
}

const PROGRAMS: &[Program] = &[
    Program {
        names: &["gunicorn"],
        keep_alive: "gunicorn --keep-alive 75 (sync workers keep none)",
        workers: "gunicorn --workers, --threads, or an async worker class",
        backlog: "gunicorn --backlog",
        limit: "gunicorn --timeout (30 s by default) kills a worker that is busy for longer",
        ends_by: &[6, 9],
        says: "WORKER TIMEOUT",
        graceful: "gunicorn --graceful-timeout, 30 s by default",
        socket: "gunicorn --group and --umask 007",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["uvicorn"],
        keep_alive: "uvicorn --timeout-keep-alive 75",
        workers: "uvicorn --workers; blocking code in an async handler stops its whole loop",
        backlog: "uvicorn --backlog",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "uvicorn --timeout-graceful-shutdown",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["hypercorn"],
        keep_alive: "hypercorn --keep-alive 75",
        workers: "hypercorn --workers",
        backlog: "hypercorn --backlog",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "hypercorn --graceful-timeout",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["uwsgi"],
        keep_alive: "uwsgi --http-keepalive",
        workers: "uwsgi --processes, --threads",
        backlog: "uwsgi --listen",
        limit: "uwsgi --harakiri kills a worker that is busy for longer",
        ends_by: &[9],
        says: "harakiri",
        graceful: "uwsgi --worker-reload-mercy, 60 s by default; reload by SIGHUP, stop by --die-on-term or its fifo's q",
        socket: "uwsgi --chown-socket and --chmod-socket=660",
        unread: "check uwsgi --buffer-size (4096 by default): it must hold all request headers; see its log: grep 'invalid request block size'",
        is_by_address: false,
    },
    Program {
        names: &["python"],
        keep_alive: "gunicorn --keep-alive 75, uvicorn --timeout-keep-alive 75",
        workers: "gunicorn or uvicorn --workers",
        backlog: "gunicorn or uvicorn --backlog",
        limit: "gunicorn --timeout (30 s by default) kills a worker that is busy for longer",
        ends_by: &[6, 9],
        says: "WORKER TIMEOUT",
        graceful: "gunicorn --graceful-timeout, uvicorn --timeout-graceful-shutdown",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["php-fpm"],
        keep_alive: "",
        workers: "pm.max_children in its pool; its log says `reached pm.max_children`",
        backlog: "listen.backlog in its pool",
        limit: "request_terminate_timeout in its pool ends it, request_slowlog_timeout shows its stack",
        ends_by: &[9, 15],
        says: "execution timed out",
        graceful: "process_control_timeout in php-fpm.conf: 0 by default, which ends requests at once",
        socket: "listen.group and listen.mode = 0660 in its pool",
        unread: "check listen.allowed_clients in its pool: it must name {}, else php-fpm closes at once; see its log: grep 'Connection disallowed'",
        is_by_address: true,
    },
    Program {
        names: &["node"],
        keep_alive: "server.keepAliveTimeout = 75000 (and headersTimeout above it)",
        workers: "one process has one event loop: cluster or more instances; synchronous code stops it (node --cpu-prof)",
        backlog: "the backlog of server.listen()",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "on SIGTERM call server.close(), and exit when its callback runs",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["puma", "unicorn", "ruby"],
        keep_alive: "persistent_timeout 75 in puma.rb",
        workers: "workers and threads in puma.rb",
        backlog: "bind 'tcp://…?backlog=' in puma.rb",
        limit: "worker_timeout in puma.rb, timeout in unicorn.rb kill a worker that does not check in",
        ends_by: &[9],
        says: "terminating timed out worker",
        graceful: "worker_shutdown_timeout and force_shutdown_after in puma.rb",
        socket: "umask=0007 in puma's bind",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["java"],
        keep_alive: "Tomcat: keepAliveTimeout=\"75000\" in its Connector; Jetty: idleTimeout",
        workers: "Tomcat: maxThreads in its Connector",
        backlog: "Tomcat: acceptCount in its Connector",
        limit: "see its threads: jstack",
        ends_by: &[],
        says: "",
        graceful: "Spring Boot: server.shutdown=graceful; Tomcat: unloadDelay",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["apache2", "httpd"],
        keep_alive: "KeepAliveTimeout 75",
        workers: "MaxRequestWorkers",
        backlog: "ListenBacklog",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "apachectl graceful and graceful-stop in place of restart and stop; GracefulShutdownTimeout",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["nginx"],
        keep_alive: "keepalive_timeout 75s; there",
        workers: "worker_processes there",
        backlog: "listen … backlog= there",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "nginx -s reload and quit; worker_shutdown_timeout there",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["haproxy"],
        keep_alive: "timeout http-keep-alive 75s",
        workers: "maxconn and nbthread",
        backlog: "backlog in its frontend",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "reload by SIGUSR2; hard-stop-after",
        socket: "",
        unread: "",
        is_by_address: false,
    },
    Program {
        names: &["caddy"],
        keep_alive: "servers { timeouts { idle 75s } }",
        workers: "",
        backlog: "",
        limit: "",
        ends_by: &[],
        says: "",
        graceful: "shutdown_delay and grace_period",
        socket: "",
        unread: "",
        is_by_address: false,
    },
];

/// What starts and stops programs of others: who is stopped by one is being restarted or deployed.
const MANAGERS: &[&str] = &[
    "systemd",
    "init",
    "supervisor",
    "runsv",
    "s6-",
    "tini",
    "dumb-init",
    "docker",
    "containerd",
    "conmon",
    "runc",
    "crun",
    "kubelet",
    "podman",
    "pm2",
    "PM2",
    "circus",
    "foreman",
    "honcho",
    "monit",
    "start-stop-daem",
];

/// Is this the name of one that manages services?
pub(super) fn is_manager(name: &str) -> bool {
    MANAGERS.iter().any(|manager| name.starts_with(manager))
}

/// Programs that run others' servers: one that starts another need not be its master.
const INTERPRETERS: &[&str] = &["python", "node", "ruby", "java"];

pub(super) fn is_interpreter(name: &str) -> bool {
    INTERPRETERS.iter().any(|one| name.starts_with(one))
}

/// Does a master of this name take the signal for an order to stop or to reload? Some reopen their
/// logs by it, or show how they do.
pub(super) fn is_order(master: &str, signal: u8) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|name| master.starts_with(name));
    match signal {
        1 => !is_one_of(&["puma"]),
        2 | 3 | 15 => true,
        10 => is_one_of(&["puma", "apache2", "httpd", "node"]),
        12 => !is_one_of(&["uwsgi"]),
        _ => false,
    }
}

/// Is the process `name` a worker of the server whose master is called `master`? Some run their
/// workers by an interpreter.
pub(super) fn is_worker(name: &str, master: &str) -> bool {
    match (known(name), known(master)) {
        (Some(one), Some(other)) if std::ptr::eq(one, other) => true,
        (Some(_), Some(other)) => {
            name.starts_with("python")
                && ["gunicorn", "uvicorn", "hypercorn", "uwsgi"].contains(&other.names[0])
        }
        _ => false,
    }
}

/// The program of a process, by its name.
pub(super) fn known(name: &str) -> Option<&'static Program> {
    let is_named = |program: &&Program| program.names.iter().any(|one| name.starts_with(one));
    PROGRAMS.iter().find(is_named)
}

/// What `setting` names, in brackets after a blank; nothing where the program is not known or has
/// none.
pub(super) fn aside(name: Option<&str>, setting: fn(&Program) -> &'static str) -> String {
    let text = name.and_then(known).map_or("", setting);
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}
