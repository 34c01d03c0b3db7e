//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1), and the negotiation of permessage-deflate (RFC 7692 §7.1).

use super::super::deflate::{Deflate, Half};
use crate::h1::is_token;

pub(crate) const NAME: &str = "permessage-deflate";

/// One extension with its parameters, without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// Splits `text` at `at`, but not inside quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        c == at && !quoted
    })
    .map(|part| part.trim_matches([' ', '\t']))
}

fn token(text: &str) -> Option<String> {
    is_token(text.as_bytes()).then(|| text.to_owned())
}

/// Returns the value: a token, or a quoted string that is a token.
fn value(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return token(text) };
    let quoted = quoted.strip_suffix('"')?;
    let mut plain = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next()? } else { c });
    }
    token(&plain)
}

/// Reads one field; `None` if it breaks the grammar.
pub(crate) fn parse(field: &[u8]) -> Option<Vec<Extension>> {
    let text = std::str::from_utf8(field).ok()?;
    let one = |text| {
        let mut parts = split(text, ';');
        let name = token(parts.next()?)?;
        let param = |part: &str| match part.split_once('=') {
            None => Some((token(part)?, None)),
            Some((name, text)) => Some((token(name.trim_end())?, Some(value(text.trim_start())?))),
        };
        Some(Extension { name, params: parts.map(param).collect::<Option<_>>()? })
    };
    // Empty elements of a list are ignored (RFC 9110 §5.6.1).
    split(text, ',').filter(|part| !part.is_empty()).map(one).collect()
}

/// The four parameters of permessage-deflate, as offered or as accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Params {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// `Some(None)`: named, without a value, which only an offer may have.
    client_bits: Option<Option<u8>>,
}

impl Params {
    /// Reads the parameters. `None` if one is unknown, repeated, or has an invalid value (§7.1).
    fn read(params: &[(String, Option<String>)]) -> Option<Self> {
        let mut read = Self::default();
        let bits = |text: &str| match text.as_bytes() {
            [b @ b'8'..=b'9'] => Some(b - b'0'),
            [b'1', b @ b'0'..=b'5'] => Some(10 + b - b'0'),
            _ => None,
        };
        for (name, value) in params {
            let fresh = match (name.as_str(), value) {
                ("server_no_context_takeover", None) => !std::mem::replace(&mut read.server_no_context, true),
                ("client_no_context_takeover", None) => !std::mem::replace(&mut read.client_no_context, true),
                ("server_max_window_bits", Some(text)) => read.server_bits.replace(bits(text)?).is_none(),
                ("client_max_window_bits", None) => read.client_bits.replace(None).is_none(),
                ("client_max_window_bits", Some(text)) => read.client_bits.replace(Some(bits(text)?)).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(read)
    }

    fn write(self) -> String {
        let mut text = NAME.to_owned();
        for (is, name) in [
            (self.server_no_context, "; server_no_context_takeover"),
            (self.client_no_context, "; client_no_context_takeover"),
        ] {
            text += if is { name } else { "" };
        }
        if let Some(bits) = self.server_bits {
            text += &format!("; server_max_window_bits={bits}");
        }
        match self.client_bits {
            None => {}
            Some(None) => text += "; client_max_window_bits",
            Some(Some(bits)) => text += &format!("; client_max_window_bits={bits}"),
        }
        text
    }
}

/// Returns the server's choice, and its field value: the first offer that can be accepted.
pub(crate) fn accept(offers: &[Extension], ours: &Deflate) -> Option<(Deflate, String)> {
    offers.iter().filter(|offer| offer.name.eq_ignore_ascii_case(NAME)).find_map(|offer| {
        let offered = Params::read(&offer.params)?;
        let own = Half {
            bits: offered.server_bits.unwrap_or(15).min(ours.own.bits),
            context: ours.own.context && !offered.server_no_context,
        };
        let mut peer = Half { bits: 15, context: ours.peer.context && !offered.client_no_context };
        // A server must not request a smaller window from a client that did not offer it (§7.1.2.2).
        let client_bits = offered.client_bits.map(|bits| bits.unwrap_or(15).min(ours.peer.bits));
        peer.bits = client_bits.unwrap_or(15);
        let response = Params {
            server_no_context: !own.context,
            client_no_context: !peer.context,
            server_bits: offered.server_bits.map(|_| own.bits),
            client_bits: client_bits.filter(|bits| *bits < 15).map(Some),
        };
        Some((Deflate { own, peer, ..*ours }, response.write()))
    })
}

/// Returns the field value of a client's offer.
pub(crate) fn offer(ours: &Deflate) -> String {
    let offer = Params {
        server_no_context: !ours.peer.context,
        client_no_context: !ours.own.context,
        server_bits: (ours.peer.bits < 15).then_some(ours.peer.bits),
        client_bits: Some((ours.own.bits < 15).then_some(ours.own.bits)),
    };
    offer.write()
}

/// Returns the parameters that the server selected; `None` if the client did not offer them.
pub(crate) fn agree(response: &Extension, ours: &Deflate) -> Option<Deflate> {
    let agreed = Params::read(&response.params)?;
    if !ours.peer.context && !agreed.server_no_context {
        return None;
    }
    let peer_bits = match agreed.server_bits {
        Some(bits) if bits <= ours.peer.bits => bits,
        None if ours.peer.bits == 15 => 15,
        _ => return None,
    };
    let own_bits = match agreed.client_bits {
        None => 15,
        Some(Some(bits)) => bits,
        Some(None) => return None,
    };
    Some(Deflate {
        own: Half { bits: own_bits.min(ours.own.bits), context: ours.own.context && !agreed.client_no_context },
        peer: Half { bits: peer_bits, context: !agreed.server_no_context },
        ..*ours
    })
}
