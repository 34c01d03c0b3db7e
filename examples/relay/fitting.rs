//! Settings that limit other settings.

use super::{
    Failure,
    settings::{Setting, Settings, all},
    values::AccessFormat,
};

/// A duration, the setting that is its maximum, and functions that read both and lower the duration.
struct Rule {
    time: (&'static str, &'static str),
    maximum: (&'static str, &'static str),
    values: fn(&Settings) -> (u64, u64),
    lower: fn(&mut Settings, u64),
}

const RULES: &[Rule] = &[
    Rule {
        time: ("sessions", "ttl"),
        maximum: ("sessions", "ttl-max"),
        values: |s| (s.sessions.ttl.get(), s.sessions.ttl_max.get()),
        lower: |s, maximum| s.sessions.ttl = maximum.try_into().unwrap_or(s.sessions.ttl),
    },
    Rule {
        time: ("sessions", "ttl"),
        maximum: ("sessions", "lifetime"),
        values: |s| (s.sessions.ttl.get(), s.sessions.lifetime.get()),
        lower: |s, maximum| s.sessions.ttl = maximum.try_into().unwrap_or(s.sessions.ttl),
    },
    Rule {
        time: ("sessions", "ttl-max"),
        maximum: ("sessions", "lifetime"),
        values: |s| (s.sessions.ttl_max.get(), s.sessions.lifetime.get()),
        lower: |s, maximum| s.sessions.ttl_max = maximum.try_into().unwrap_or(s.sessions.ttl_max),
    },
    Rule {
        time: ("sessions", "request-timeout"),
        maximum: ("sessions", "request-timeout-max"),
        values: |s| (s.sessions.request_timeout, s.sessions.request_timeout_max),
        lower: |s, maximum| s.sessions.request_timeout = maximum,
    },
    Rule {
        time: ("rendezvous", "ttl"),
        maximum: ("rendezvous", "ttl-max"),
        values: |s| (s.rendezvous.ttl.get(), s.rendezvous.ttl_max),
        lower: |s, maximum| s.rendezvous.ttl = maximum.try_into().unwrap_or(s.rendezvous.ttl),
    },
    Rule {
        time: ("rendezvous", "body-timeout"),
        maximum: ("rendezvous", "lifetime"),
        values: |s| (s.rendezvous.body_timeout.get(), s.rendezvous.lifetime.get()),
        lower: |s, maximum| s.rendezvous.body_timeout = maximum.try_into().unwrap_or(s.rendezvous.body_timeout),
    },
    Rule {
        time: ("page", "link-ttl"),
        maximum: ("rendezvous", "ttl-max"),
        values: |s| (s.page.link_ttl.get(), s.rendezvous.ttl_max),
        lower: |s, maximum| s.page.link_ttl = maximum.try_into().unwrap_or(s.page.link_ttl),
    },
];

/// Lowers durations that have their default to their maximum, so that a file that lowers a maximum need not set them,
/// too. A duration that was set above its maximum is an error of [`check`].
pub(crate) fn lower_defaults(settings: &mut Settings) {
    let defaults = Settings::default();
    for rule in RULES {
        let (time, maximum) = (rule.values)(settings);
        if time > maximum && maximum > 0 && time == (rule.values)(&defaults).0 {
            (rule.lower)(settings, maximum);
        }
    }
}

/// Rejects settings that contradict each other.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let is_on = |section: &str| match section {
        "sessions" => settings.sessions.enabled,
        "rendezvous" => settings.rendezvous.enabled,
        "page" => settings.page.enabled && settings.rendezvous.enabled,
        _ => true,
    };
    for rule in RULES {
        let (time, maximum) = (rule.values)(settings);
        if time > maximum && is_on(rule.time.0) {
            let (name, maximum_name) = (named(rule.time), named(rule.maximum));
            return Err(Failure::config(format!(
                "invalid {name} {time}: must be at most {maximum}, the value of {maximum_name}"
            )));
        }
    }
    let log = &settings.access_log;
    if log.format == AccessFormat::Off && !log.file.as_os_str().is_empty() {
        let message = "the access log is off: add --access-log";
        return Err(Failure::config(format!("--access-log-file {}: {message}", log.file.display())));
    }
    Ok(())
}

/// Returns the flag of a setting and its key in the file.
fn named((section, key): (&str, &str)) -> String {
    let is_it = |setting: &Setting| setting.section == section && setting.key == key;
    let flag = all().iter().find(|setting| is_it(setting)).map_or("", |setting| setting.flag);
    format!("--{flag} ([{section}] {key})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_their_maximum_and_what_was_set_does_not() {
        let mut settings = Settings::default();
        settings.rendezvous.ttl_max = 30;
        settings.sessions.lifetime = 600.try_into().expect("a time");
        lower_defaults(&mut settings);
        assert_eq!((settings.rendezvous.ttl.get(), settings.page.link_ttl.get()), (30, 30));
        assert_eq!((settings.sessions.ttl.get(), settings.sessions.ttl_max.get()), (600, 600));
        assert!(check(&settings).is_ok());
        for rule in RULES {
            let mut settings = Settings::default();
            let (_, maximum) = (rule.values)(&settings);
            (rule.lower)(&mut settings, maximum + 1);
            lower_defaults(&mut settings);
            let error = check(&settings).expect_err("above");
            let named = named(rule.time);
            assert!(!named.starts_with("-- ") && error.0.starts_with(&format!("invalid {named}")), "{}", error.0);
        }
    }
}
