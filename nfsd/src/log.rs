//! Where events go: one line each to standard error, in the form journald or people read.

use crate::config::LogFormat;
use crate::finding::nearest;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads `LEVEL` and `TARGET=LEVEL`, comma separated; what is wrong comes as (message, fix).
///
/// Stricter than `Targets`, for which a misspelt level is a target of that name.
pub fn check_filter(filter: &str) -> Result<Targets, (String, String)> {
    let mut targets = Targets::new();
    for part in filter.split(',').map(str::trim) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        let Some(level) = LEVELS
            .contains(&level)
            .then(|| level.parse::<LevelFilter>().ok())
            .flatten()
        else {
            let fix = match nearest(level, LEVELS) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    "write LEVEL or TARGET=LEVEL; levels are off, error, warn, info, debug, trace"
                        .to_owned()
                }
            };
            return Err((
                format!("not a log level: \"{}\"", level.escape_debug()),
                fix,
            ));
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        targets = match target {
            None => targets.with_default(level),
            Some(target) if !target.is_empty() && target.chars().all(word) => {
                targets.with_target(target, level)
            }
            Some(target) => {
                let fix = "write TARGET=LEVEL, as in nfsd::rpc=debug".to_owned();
                return Err((
                    format!("not a log target: \"{}\"", target.escape_debug()),
                    fix,
                ));
            }
        };
    }
    Ok(targets)
}

/// Starts logging for the whole process. To call once; a second call is an error.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let targets =
        check_filter(filter).map_err(|(message, fix)| format!("{message}; fix: {fix}"))?;
    let journal = stderr_is_journal();
    let base = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let done = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(
            base.with(layer.event_format(Lines::text(journal))),
        ),
        LogFormat::Json => {
            let layer = layer
                .fmt_fields(JsonFields::new())
                .event_format(Lines::json(journal));
            tracing::subscriber::set_global_default(base.with(layer))
        }
    };
    done.map_err(|error| error.to_string())
}

/// Whether standard error is the stream systemd named in `JOURNAL_STREAM` (systemd.exec(5)): `DEVICE:INODE`.
fn stderr_is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2").map(|m| (m.dev(), m.ino()));
    stderr.is_ok_and(|stream| same_stream(&named, stream))
}

fn same_stream(named: &str, (device, inode): (u64, u64)) -> bool {
    named == format!("{device}:{inode}")
}

/// Another format, held to one line an event, with the priority journald reads (sd-daemon(3)) if wanted.
struct Lines<F> {
    inner: F,
    /// For the journal, which has its own times.
    priority: bool,
}

/// `Format` whose times are left out at run time.
struct Times<L> {
    with: Format<L>,
    without: Format<L, ()>,
    journal: bool,
}

impl Lines<Times<tracing_subscriber::fmt::format::Full>> {
    fn text(journal: bool) -> Self {
        let plain = || Format::default().with_ansi(false);
        let without = plain().without_time().with_level(false);
        Lines {
            inner: Times {
                with: plain(),
                without,
                journal,
            },
            priority: journal,
        }
    }
}

impl Lines<Times<Json>> {
    fn json(journal: bool) -> Self {
        let plain = || Format::default().json().flatten_event(true);
        Lines {
            inner: Times {
                with: plain(),
                without: plain().without_time(),
                journal,
            },
            priority: journal,
        }
    }
}

impl<S, N, L> FormatEvent<S, N> for Times<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<L>: FormatEvent<S, N>,
    Format<L, ()>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.journal {
            true => self.without.format_event(context, writer, event),
            false => self.with.format_event(context, writer, event),
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        if self.priority {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        writeln!(writer, "{}", one_line(line.trim_end_matches('\n')))
    }
}

/// syslog(3) priority.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Control characters, which names of files may hold, as escapes.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("the sink").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, journal: bool, events: fn()) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let base = tracing_subscriber::registry().with(check_filter(filter).expect("a filter"));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || out.clone())
            .with_ansi(false);
        match format {
            LogFormat::Text => {
                tracing::subscriber::with_default(
                    base.with(layer.event_format(Lines::text(journal))),
                    events,
                );
            }
            LogFormat::Json => {
                let layer = layer
                    .fmt_fields(JsonFields::new())
                    .event_format(Lines::json(journal));
                tracing::subscriber::with_default(base.with(layer), events);
            }
        }
        let bytes = sink.0.lock().expect("the sink").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn journal_lines_have_a_priority_and_no_time() {
        let text = logged("debug", LogFormat::Text, true, || {
            tracing::error!(target: "t", "one");
            tracing::warn!(target: "t", n = 2, "two");
            tracing::info!(target: "t", "three");
            tracing::debug!(target: "t", "four");
        });
        assert_eq!(text, "<3>t: one\n<4>t: two n=2\n<6>t: three\n<7>t: four\n");
    }

    #[test]
    fn other_lines_have_time_and_level() {
        let text = logged(
            "info",
            LogFormat::Text,
            false,
            || tracing::info!(target: "t", "one"),
        );
        assert!(text.ends_with("Z  INFO t: one\n"), "{text}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        for journal in [true, false] {
            let text = logged(
                "info",
                LogFormat::Text,
                journal,
                || tracing::info!(target: "t", name = "a\nb\r\u{1b}[m", "x\ny"),
            );
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(
            "info",
            LogFormat::Json,
            false,
            || tracing::warn!(target: "t", path = "a\nb", n = 3, "m"),
        );
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).expect("an object");
        assert_eq!(
            (&value["level"], &value["path"], &value["n"]),
            (&"WARN".into(), &"a\nb".into(), &3.into())
        );
        assert!(value["timestamp"].is_string());
        let text = logged(
            "info",
            LogFormat::Json,
            true,
            || tracing::warn!(target: "t", "m"),
        );
        let value: serde_json::Value =
            serde_json::from_str(text.strip_prefix("<4>").expect("priority")).expect("an object");
        assert!(value["timestamp"].is_null());
    }

    #[test]
    fn filters() {
        let text = logged("warn,a::b=debug", LogFormat::Text, true, || {
            tracing::info!(target: "a", "no");
            tracing::debug!(target: "a::b", "yes");
            tracing::warn!(target: "c", "yes");
        });
        assert_eq!(text, "<7>a::b: yes\n<4>c: yes\n");
        assert!(logged("off", LogFormat::Text, true, || tracing::error!("no")).is_empty());
    }

    #[test]
    fn bad_filters_say_why() {
        let cases = [
            (
                "inof",
                "not a log level: \"inof\"",
                "did you mean \"info\"?",
            ),
            (
                "nfsd",
                "not a log level: \"nfsd\"",
                "write LEVEL or TARGET=LEVEL; levels are off, error, warn, info, debug, trace",
            ),
            (
                "info,",
                "not a log level: \"\"",
                "write LEVEL or TARGET=LEVEL; levels are off, error, warn, info, debug, trace",
            ),
            (
                "nfsd=INFO",
                "not a log level: \"INFO\"",
                "did you mean \"info\"?",
            ),
            (
                "=info",
                "not a log target: \"\"",
                "write TARGET=LEVEL, as in nfsd::rpc=debug",
            ),
            (
                "a b=info",
                "not a log target: \"a b\"",
                "write TARGET=LEVEL, as in nfsd::rpc=debug",
            ),
        ];
        for (filter, message, fix) in cases {
            assert_eq!(
                check_filter(filter).err(),
                Some((message.to_owned(), fix.to_owned())),
                "{filter}"
            );
        }
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        assert!(same_stream("8:123", (8, 123)));
        assert!(
            !same_stream("8:124", (8, 123))
                && !same_stream("", (8, 123))
                && !same_stream("8:123x", (8, 123))
        );
    }
}
