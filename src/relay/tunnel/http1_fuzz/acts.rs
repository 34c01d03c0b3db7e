//! What happens: each act is a byte, and the values behind it.

use std::time::Duration;

use super::{
    Mode, World,
    application::{LETTERS, WHOLE},
    client::Client,
    end::OtherEnd,
    reference::{End, Progress, exchanges},
    script::Script,
    templates,
};

/// Clients, and connections of origin servers, of one run.
const CLIENTS: usize = 12;
const CONNECTIONS: usize = 4;

/// Bytes that are sent to a receiver, and how many of them it may hold: all pipes and buffers on their way.
const FLOOD: usize = 640 * 1024;
const HELD: u64 = 400 * 1024;
/// So many times in a run: each takes its time.
const FLOODS: usize = 2;

impl World {
    pub(super) fn act(&mut self, act: u8, script: &mut Script<'_>) {
        // Without clients, their acts are those of the proxy.
        let act = if self.mode == Mode::Origin && act & 15 < 6 { 8 + (act & 7) } else { act };
        match act & 15 {
            0 | 1 => self.begin(script),
            2 | 3 => {
                let (which, size) = (script.byte(), script.size());
                self.with_client(which, |client| client.send(size));
            }
            4 => {
                let which = script.byte();
                self.with_client(which, |client| client.complete(act & 0x10 != 0));
            }
            5 => self.treat_client(script),
            6 => {
                let millis = [1, 50, 200, 600, 5000, 16_000, 31_000, 70_000][usize::from(script.byte() & 7)];
                let millis = if self.mode == Mode::Fair { millis.min(600) } else { millis };
                self.pass(Duration::from_millis(millis));
            }
            7 => self.application.respond(),
            _ if matches!(self.mode, Mode::Pair | Mode::Fair) => self.act_on_wire(act, script),
            _ => self.act_as_end(act, script),
        }
    }

    fn begin(&mut self, script: &mut Script<'_>) {
        let (kind, letter, size) = (script.byte(), usize::from(script.byte()), script.size());
        if self.clients.len() >= CLIENTS {
            return;
        }
        let letters = if self.mode == Mode::Fair { WHOLE } else { LETTERS };
        let (number, letter) = (self.clients.len(), letters[letter % letters.len()]);
        // Everything goes well only for a request that is not ended by its client.
        let kind = if self.mode == Mode::Fair && kind % 9 > 5 { 0 } else { kind };
        let client = Client::begin(&self.on, Self::peer(number), number, kind, letter, size);
        self.clients.push(client);
    }

    fn with_client(&mut self, which: u8, act: impl FnOnce(&mut Client)) {
        let n = self.clients.len();
        if n > 0 {
            act(&mut self.clients[usize::from(which) % n]);
        }
    }

    fn treat_client(&mut self, script: &mut Script<'_>) {
        let (which, how) = (script.byte(), script.byte());
        let fair = self.mode == Mode::Fair;
        if how % 6 == 5 {
            return self.flood_from_client(which);
        }
        self.with_client(which, |client| match how % 6 {
            0 | 1 => client.end.reads = !client.end.reads,
            _ if fair => {}
            2 => client.end.cut(),
            3 => client.end.disconnect(),
            _ => {
                client.end.is_rough = true;
                client.end.finish();
            }
        });
    }

    /// A client sends much: what nothing takes must stay with it.
    fn flood_from_client(&mut self, which: u8) {
        let n = self.clients.len();
        if n == 0 || self.floods >= FLOODS {
            return;
        }
        self.floods += 1;
        let which = usize::from(which) % n;
        let (taken, delivered) = (self.clients[which].end.taken(), received(&self.origins));
        self.clients[which].send(FLOOD);
        self.turn();
        let client = &self.clients[which];
        // Behind a response, the rest of the body is dropped; whether there is one can be seen by a client that reads.
        let is_waiting = client.end.reads && !client.end.is_rough && client.response().status.is_none();
        if is_waiting && !client.end.is_closed() {
            let grown = client.end.taken() - taken;
            assert!(grown <= HELD + received(&self.origins) - delivered, "{grown} bytes of a client are held");
        }
    }

    fn act_on_wire(&mut self, act: u8, script: &mut Script<'_>) {
        let (how, fair) = (act & 15, self.mode == Mode::Fair);
        match how {
            8 | 9 => self.paused[usize::from(how & 1)] ^= true,
            10 | 11 => self.paused = [false; 2],
            12 if self.origins.len() < CONNECTIONS => self.connect(),
            13 | 14 if !fair => {
                self.cut = true;
                let at = usize::from(script.byte()) % self.origins.len();
                if how == 13 {
                    self.served[at].cut();
                    self.served[at].disconnect();
                }
                self.origins[at].cut();
                self.origins[at].disconnect();
            }
            15 => {
                let which = script.byte();
                self.flood_from_client(which);
            }
            _ => {}
        }
    }

    /// Sends something to P or C.
    fn act_as_end(&mut self, act: u8, script: &mut Script<'_>) {
        let ends = if self.mode == Mode::Proxy { &self.origins } else { &self.served };
        // The last one is the one that most acts concern.
        let at = if act & 0x80 == 0 { ends.len() - 1 } else { usize::from(script.byte()) % ends.len() };
        match act & 15 {
            8 | 9 => {
                let (kind, size) = (script.byte(), script.size());
                let whole = act & 0x10 == 0;
                self.send_head(at, kind, size, whole, act & 0x40 != 0, script);
            }
            10 => {
                let size = script.size();
                self.at(at).send(&vec![b'x'; size]);
            }
            11 => {
                let size = script.size();
                let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
                if size > 0 {
                    self.at(at).send(&chunk);
                }
            }
            12 if act & 0x10 == 0 => self.at(at).send(b"0\r\n\r\n"),
            12 => self.at(at).send(b"0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n"),
            13 => {
                let n = usize::from(script.byte() & 63);
                let bytes = script.bytes(n);
                self.at(at).send(bytes);
            }
            14 => match script.byte() % 6 {
                0 => self.at(at).finish(),
                1 => self.at(at).cut(),
                2 | 3 => self.at(at).reads ^= true,
                4 => self.at(at).disconnect(),
                _ if self.relayed.len() < CONNECTIONS && self.mode == Mode::Proxy => self.connect(),
                _ => {}
            },
            _ => self.flood_from_end(at),
        }
    }

    fn at(&mut self, at: usize) -> &mut OtherEnd {
        if self.mode == Mode::Proxy { &mut self.origins[at] } else { &mut self.served[at] }
    }

    /// Sends a head, and perhaps a body of its length; or a part of a head.
    fn send_head(&mut self, at: usize, kind: u8, size: usize, whole: bool, any: bool, script: &mut Script<'_>) {
        let mut bytes = if self.mode == Mode::Proxy {
            let end = &self.origins[at];
            let known = exchanges(&end.received, &end.sent, end.sent_end);
            // A response that nothing has requested only ends the connection.
            let waiting = known.all.last().filter(|last| last.response.progress == Progress::Incomplete);
            match waiting {
                Some(last) if last.request.own && !any => templates::response(5, 0),
                None if !any => return,
                _ => templates::response(kind, size),
            }
        } else {
            let number = exchanges(&self.served[at].sent, &[], End::Open).all.len();
            let letter = LETTERS[usize::from(script.byte()) % LETTERS.len()];
            templates::request(kind, number, letter, size)
        };
        if any && !whole && !bytes.is_empty() {
            let (cut, value) = (usize::from(script.byte()) * 3 % bytes.len(), script.byte());
            if value & 1 == 0 { bytes.truncate(cut) } else { bytes[cut] = value }
        } else if whole {
            bytes.extend_from_slice(&vec![b'y'; size.min(if has_length(&bytes) { usize::MAX } else { 0 })]);
        }
        self.at(at).send(&bytes);
    }

    /// An origin server, or a proxy, sends much.
    fn flood_from_end(&mut self, at: usize) {
        if self.floods >= FLOODS {
            return;
        }
        self.floods += 1;
        let delivered = |world: &Self| {
            let clients: u64 = world.clients.iter().map(|client| client.end.received.len() as u64).sum();
            let records = world.application.records();
            let bodies: u64 = records.iter().map(|record| record.body.len() as u64).sum();
            clients + bodies
        };
        let (taken, before, seen) = (self.at(at).taken(), delivered(self), received(&self.served));
        self.at(at).send(&vec![b'x'; FLOOD]);
        self.turn();
        let grown = self.at(at).taken().saturating_sub(taken);
        let end = self.at(at);
        // The body of a ping's response is dropped, and what the application does not want.
        let pings = end.received.windows(9).any(|bytes| bytes == b"OPTIONS *");
        let drops = self.mode == Mode::Origin
            && (received(&self.served) > seen || self.application.records().iter().any(|record| record.over));
        // Behind its own end, a receiver drops what arrives; who does not read does not see the end.
        let end = self.at(at);
        let is_over = end.is_closed() || !end.reads || end.is_rough || end.received_end() != End::Open;
        if !is_over && !pings && !drops {
            assert!(grown <= HELD + delivered(self) - before, "{grown} bytes are held");
        }
        self.at(at).clear();
    }
}

fn received(ends: &[OtherEnd]) -> u64 {
    ends.iter().map(|end| end.received.len() as u64).sum()
}

fn has_length(head: &[u8]) -> bool {
    head.windows(16).any(|bytes| bytes == b"\r\nContent-Length")
}
