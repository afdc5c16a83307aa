//! The settings of backends that are known by their process's name. Of any other nothing is said: a list of guesses
//! helps nobody.

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
}

const PROGRAMS: &[Program] = &[
    Program {
        names: &["gunicorn"],
        keep_alive: "gunicorn --keep-alive 75 (sync workers keep none)",
        workers: "gunicorn --workers, --threads, or an async worker class",
        backlog: "gunicorn --backlog",
        limit: "gunicorn --timeout (30 s by default) kills a worker that is busy for longer",
    },
    Program {
        names: &["uvicorn"],
        keep_alive: "uvicorn --timeout-keep-alive 75",
        workers: "uvicorn --workers; blocking code in an async handler stops its whole loop",
        backlog: "uvicorn --backlog",
        limit: "",
    },
    Program {
        names: &["hypercorn"],
        keep_alive: "hypercorn --keep-alive 75",
        workers: "hypercorn --workers",
        backlog: "hypercorn --backlog",
        limit: "",
    },
    Program {
        names: &["uwsgi"],
        keep_alive: "uwsgi --http-keepalive",
        workers: "uwsgi --processes, --threads",
        backlog: "uwsgi --listen",
        limit: "uwsgi --harakiri kills a worker that is busy for longer",
    },
    Program {
        names: &["python"],
        keep_alive: "gunicorn --keep-alive 75, uvicorn --timeout-keep-alive 75",
        workers: "gunicorn or uvicorn --workers",
        backlog: "gunicorn or uvicorn --backlog",
        limit: "gunicorn --timeout kills a worker that is busy for longer",
    },
    Program {
        names: &["php-fpm"],
        keep_alive: "",
        workers: "pm.max_children in its pool; its log says `reached pm.max_children`",
        backlog: "listen.backlog in its pool",
        limit: "request_terminate_timeout in its pool ends it, request_slowlog_timeout shows its stack",
    },
    Program {
        names: &["node"],
        keep_alive: "server.keepAliveTimeout = 75000 (and headersTimeout above it)",
        workers: "one process has one event loop: cluster or more instances; synchronous code stops it (node --cpu-prof)",
        backlog: "the backlog of server.listen()",
        limit: "",
    },
    Program {
        names: &["puma", "ruby"],
        keep_alive: "persistent_timeout 75 in puma.rb",
        workers: "workers and threads in puma.rb",
        backlog: "bind 'tcp://…?backlog=' in puma.rb",
        limit: "worker_timeout in puma.rb kills a worker that does not check in",
    },
    Program {
        names: &["java"],
        keep_alive: "Tomcat: keepAliveTimeout=\"75000\" in its Connector; Jetty: idleTimeout",
        workers: "Tomcat: maxThreads in its Connector",
        backlog: "Tomcat: acceptCount in its Connector",
        limit: "see its threads: jstack",
    },
    Program {
        names: &["apache2", "httpd"],
        keep_alive: "KeepAliveTimeout 75",
        workers: "MaxRequestWorkers",
        backlog: "ListenBacklog",
        limit: "",
    },
    Program {
        names: &["nginx"],
        keep_alive: "keepalive_timeout 75s; there",
        workers: "worker_processes there",
        backlog: "listen … backlog= there",
        limit: "",
    },
    Program {
        names: &["haproxy"],
        keep_alive: "timeout http-keep-alive 75s",
        workers: "maxconn and nbthread",
        backlog: "backlog in its frontend",
        limit: "",
    },
    Program {
        names: &["caddy"],
        keep_alive: "servers { timeouts { idle 75s } }",
        workers: "",
        backlog: "",
        limit: "",
    },
];

/// The program of a process, by its name.
pub(super) fn known(name: &str) -> Option<&'static Program> {
    let is_named = |program: &&Program| program.names.iter().any(|one| name.starts_with(one));
    PROGRAMS.iter().find(is_named)
}

/// What `setting` names, in brackets after a blank; nothing where the program is not known or has none.
pub(super) fn aside(name: Option<&str>, setting: fn(&Program) -> &'static str) -> String {
    let text = name.and_then(known).map_or("", setting);
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}
