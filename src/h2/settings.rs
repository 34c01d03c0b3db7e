//! SETTINGS (RFC 9113 §6.5): what this side says first, and what a client's mean.

use super::frame::{self, ErrorCode, GREATEST, LARGEST, setting};
use crate::base::{Limits, out::Out};

/// Bytes of a window before SETTINGS say otherwise (RFC 9113 §6.9.2).
pub(super) const DEFAULT_WINDOW: i64 = 65_535;

/// The side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What this side allows the peer.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) side: Side,
    /// Streams that the peer may have open at the same time. A client allows none: it wants no pushes.
    pub(crate) streams: u32,
    /// Bytes of a stream's body that may be in flight, at first and at most.
    pub(crate) window: u32,
    pub(crate) largest_window: u32,
    /// Bytes of the bodies of all streams that may be in flight, at first. It grows as much as those of a stream do.
    pub(crate) connection_window: u32,
    /// Bytes of a head, as HTTP/1.1 would write it, and the number of its fields.
    pub(crate) head: usize,
    pub(crate) fields: usize,
    /// Bytes of output from which on streams wait.
    pub(crate) output: usize,
    /// Faults of streams, and streams that the peer has reset, at once: with more, the connection ends. They are given
    /// back over time, and by each message that is sent. A browser cancels dozens of requests when its user leaves a
    /// page.
    pub(crate) faults: u32,
    /// Streams that this side has reset, whose late frames are ignored.
    pub(crate) remembered: usize,
}

impl Options {
    /// Returns the options of a server with these limits.
    pub(crate) fn server(limits: &Limits) -> Self {
        Self {
            side: Side::Server,
            streams: limits.streams,
            window: 64 * 1024,
            largest_window: 1024 * 1024,
            connection_window: 16 * 64 * 1024,
            head: limits.head,
            fields: limits.fields,
            output: limits.output,
            faults: 1000,
            // A client may have sent frames on each of its streams, and on as many that it began instead.
            remembered: (limits.streams as usize).saturating_mul(2).max(256),
        }
    }
}

/// Writes what this side sends first: a client's preface (RFC 9113 §3.4), SETTINGS, and the window of the connection.
pub(super) fn write_first(out: &mut Out, options: &Options) {
    let own = match options.side {
        Side::Client => {
            out.push(super::PREFACE);
            (setting::ENABLE_PUSH, 0)
        }
        Side::Server => (setting::ENABLE_CONNECT_PROTOCOL, 1),
    };
    let settings = [
        (setting::MAX_CONCURRENT_STREAMS, options.streams),
        (setting::INITIAL_WINDOW_SIZE, options.window),
        (setting::MAX_HEADER_LIST_SIZE, u32::try_from(options.head).unwrap_or(u32::MAX)),
        own,
    ];
    frame::write_settings(out, &settings);
    // It cannot be less than what is allowed without it.
    if let Some(more @ 1..) = options.connection_window.checked_sub(DEFAULT_WINDOW as u32) {
        frame::write_window_update(out, 0, more);
    }
}

/// What the peer's SETTINGS change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// The smallest and the last limit of the encoder's table.
    pub(super) table: Option<[u32; 2]>,
    /// The window of all streams.
    pub(super) window: Option<u32>,
    /// Streams that this side may have open.
    pub(super) streams: Option<u32>,
    /// This side may send extended CONNECT (RFC 8441 §3).
    pub(super) connect_protocol: bool,
}

/// Reads the payload of SETTINGS, whose length was checked.
///
/// # Errors
/// The code of a value that is not allowed. Unknown parameters are ignored (§6.5.2).
pub(super) fn read(payload: &[u8]) -> Result<Changed, ErrorCode> {
    let mut changed = Changed::default();
    for &[a, b, value @ ..] in payload.as_chunks::<6>().0 {
        let value = u32::from_be_bytes(value);
        match u16::from_be_bytes([a, b]) {
            setting::HEADER_TABLE_SIZE => {
                let smallest = changed.table.map_or(value, |[smallest, _]| smallest.min(value));
                changed.table = Some([smallest, value]);
            }
            setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(ErrorCode::Protocol),
            setting::ENABLE_CONNECT_PROTOCOL => changed.connect_protocol = value == 1,
            setting::MAX_CONCURRENT_STREAMS => changed.streams = Some(value),
            setting::INITIAL_WINDOW_SIZE if value > GREATEST => return Err(ErrorCode::FlowControl),
            setting::INITIAL_WINDOW_SIZE => changed.window = Some(value),
            setting::MAX_FRAME_SIZE if !(LARGEST as u32..1 << 24).contains(&value) => return Err(ErrorCode::Protocol),
            // This side sends no larger frames than every client takes.
            _ => {}
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(settings: &[(u16, u32)]) -> Vec<u8> {
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
    }

    #[test]
    fn values_are_checked() {
        for (settings, want) in [
            (&[][..], Ok(Changed::default())),
            (&[(4, 9), (4, 1)], Ok(Changed { window: Some(1), ..Changed::default() })),
            (&[(1, 50), (1, 0), (1, 70)], Ok(Changed { table: Some([0, 70]), ..Changed::default() })),
            (&[(2, 1), (5, 16_777_215), (6, 9), (0xfafa, 7)], Ok(Changed::default())),
            (&[(3, 0), (8, 1)], Ok(Changed { streams: Some(0), connect_protocol: true, ..Changed::default() })),
            (&[(2, 2)], Err(ErrorCode::Protocol)),
            (&[(8, 2)], Err(ErrorCode::Protocol)),
            (&[(4, 1 << 31)], Err(ErrorCode::FlowControl)),
            (&[(5, 16_383)], Err(ErrorCode::Protocol)),
            (&[(5, 1 << 24)], Err(ErrorCode::Protocol)),
        ] {
            assert_eq!(read(&payload(settings)), want, "{settings:?}");
        }
    }
}
