//! A socket that counts the TLS records it reads: only there a test can see how much data shares a record.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// Counts received TLS records.
pub(crate) struct Counted {
    pub(crate) tcp: TcpStream,
    pub(crate) records: usize,
    /// The bytes of the next record's head that were received.
    head: Vec<u8>,
    /// Bytes until the next record.
    left: usize,
}

impl Counted {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, records: 0, head: Vec::new(), left: 0 }
    }
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.tcp.read(buf)?;
        for byte in &buf[..n] {
            if self.left > 0 {
                self.left -= 1;
                continue;
            }
            self.head.push(*byte);
            if let [_, _, _, high, low] = self.head[..] {
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.records += 1;
                self.head.clear();
            }
        }
        Ok(n)
    }
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tcp.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
