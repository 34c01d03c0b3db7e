//! Settings that are limits of other settings.

use super::{
    Failure,
    settings::{Setting, Settings, all},
    values::AccessFormat,
};

/// A time, the setting that is the most it can be, and how both are read and the former is set.
struct Rule {
    time: (&'static str, &'static str),
    most: (&'static str, &'static str),
    values: fn(&Settings) -> (u64, u64),
    lower: fn(&mut Settings, u64),
}

const RULES: &[Rule] = &[
    Rule {
        time: ("sessions", "ttl"),
        most: ("sessions", "ttl-max"),
        values: |s| (s.sessions.ttl.get(), s.sessions.ttl_max.get()),
        lower: |s, most| s.sessions.ttl = most.try_into().unwrap_or(s.sessions.ttl),
    },
    Rule {
        time: ("sessions", "ttl"),
        most: ("sessions", "lifetime"),
        values: |s| (s.sessions.ttl.get(), s.sessions.lifetime.get()),
        lower: |s, most| s.sessions.ttl = most.try_into().unwrap_or(s.sessions.ttl),
    },
    Rule {
        time: ("sessions", "ttl-max"),
        most: ("sessions", "lifetime"),
        values: |s| (s.sessions.ttl_max.get(), s.sessions.lifetime.get()),
        lower: |s, most| s.sessions.ttl_max = most.try_into().unwrap_or(s.sessions.ttl_max),
    },
    Rule {
        time: ("sessions", "request-timeout"),
        most: ("sessions", "request-timeout-max"),
        values: |s| (s.sessions.request_timeout, s.sessions.request_timeout_max),
        lower: |s, most| s.sessions.request_timeout = most,
    },
    Rule {
        time: ("rendezvous", "ttl"),
        most: ("rendezvous", "ttl-max"),
        values: |s| (s.rendezvous.ttl.get(), s.rendezvous.ttl_max),
        lower: |s, most| s.rendezvous.ttl = most.try_into().unwrap_or(s.rendezvous.ttl),
    },
    Rule {
        time: ("rendezvous", "pause"),
        most: ("rendezvous", "lifetime"),
        values: |s| (s.rendezvous.pause.get(), s.rendezvous.lifetime.get()),
        lower: |s, most| s.rendezvous.pause = most.try_into().unwrap_or(s.rendezvous.pause),
    },
    Rule {
        time: ("page", "link-ttl"),
        most: ("rendezvous", "ttl-max"),
        values: |s| (s.page.link_ttl.get(), s.rendezvous.ttl_max),
        lower: |s, most| s.page.link_ttl = most.try_into().unwrap_or(s.page.link_ttl),
    },
];

/// Lowers the times that have their default to the most that they can be: a lower maximum does not have to name all that is
/// below it. A time that was set is an error there: [`check`].
pub(crate) fn lower_defaults(settings: &mut Settings) {
    let defaults = Settings::default();
    for rule in RULES {
        let (time, most) = (rule.values)(settings);
        if time > most && most > 0 && time == (rule.values)(&defaults).0 {
            (rule.lower)(settings, most);
        }
    }
}

/// Whether the settings fit together.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let is_on = |section: &str| match section {
        "sessions" => settings.sessions.enabled,
        "rendezvous" => settings.rendezvous.enabled,
        "page" => settings.page.enabled && settings.rendezvous.enabled,
        _ => true,
    };
    for rule in RULES {
        let (time, most) = (rule.values)(settings);
        if time > most && is_on(rule.time.0) {
            let (name, most_name) = (named(rule.time), named(rule.most));
            return Err(Failure::config(format!("{name}: {time} is above the most it can be: {most_name} is {most}")));
        }
    }
    let log = &settings.access_log;
    if log.format == AccessFormat::Off && !log.file.as_os_str().is_empty() {
        let words = "nothing is written to it while the format is off: add --access-log";
        return Err(Failure::config(format!("--access-log-file {}: {words}", log.file.display())));
    }
    Ok(())
}

/// A setting as its flag, and as it stands in the file.
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
            let (_, most) = (rule.values)(&settings);
            (rule.lower)(&mut settings, most + 1);
            lower_defaults(&mut settings);
            let error = check(&settings).expect_err("above");
            let named = named(rule.time);
            assert!(!named.starts_with("-- ") && error.0.starts_with(&named), "{}", error.0);
        }
    }
}
