//! Bodies that are sent piece by piece: memory, files that are not regular, and content readers of the program.

use std::{ffi::c_void, fs::File, io::Read, sync::Arc, time::Duration};

use uncork::{Produce, Produced, Tx};

use crate::{
    connection::MHD_Connection,
    memory::Memory,
    response::{Content, MHD_Response, Reader},
    shared::lock,
    types::{ContentReader, FromC},
};

/// Sends memory of the program.
pub(crate) struct MemoryStream {
    memory: Arc<Memory>,
    piece: usize,
    sent: usize,
}

impl MemoryStream {
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, piece: 0, sent: 0 }
    }
}

impl Produce for MemoryStream {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        while let Some(piece) = self.memory.piece(self.piece) {
            self.sent += out.write(&piece[self.sent..]);
            if self.sent < piece.len() {
                return Produced::More;
            }
            (self.piece, self.sent) = (self.piece + 1, 0);
        }
        Produced::End
    }
}

/// Bytes that are read at once.
const BLOCK: usize = 32 * 1024;

/// Sends what can be read from a descriptor. Reading may block, as the interface says.
pub(crate) struct FileStream {
    file: File,
    left: Option<u64>,
    buffer: Vec<u8>,
}

impl FileStream {
    pub(crate) fn new(file: File, len: Option<u64>) -> Self {
        Self { file, left: len, buffer: Vec::new() }
    }
}

impl Produce for FileStream {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        let most =
            self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX).min(BLOCK).min(out.room());
        if self.left == Some(0) {
            return Produced::End;
        }
        if most == 0 {
            return Produced::More;
        }
        self.buffer.resize(BLOCK, 0);
        match self.file.read(&mut self.buffer[..most]) {
            Ok(0) if self.left.is_none() => Produced::End,
            Ok(n) if n > 0 => {
                out.write(&self.buffer[..n]);
                self.left = self.left.map(|left| left - n as u64);
                Produced::More
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Produced::More,
            _ => Produced::Abort,
        }
    }
}

/// What a content reader returned.
enum Read1 {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

/// Sends what a content reader returns.
pub(crate) struct ReaderStream {
    response: Arc<MHD_Response>,
    connection: Arc<MHD_Connection>,
    position: u64,
    buffer: Vec<u8>,
    pause: Duration,
}

/// The first and the longest pause after a reader had no bytes. Each pause is twice as long as the one before, because
/// the reader cannot report that it has bytes again.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(32);

impl ReaderStream {
    pub(crate) fn new(response: Arc<MHD_Response>, connection: Arc<MHD_Connection>) -> Self {
        Self { response, connection, position: 0, buffer: Vec::new(), pause: SHORTEST }
    }

    fn call(&mut self, reader: (ContentReader, FromC<c_void>), most: usize) -> Read1 {
        let (read, cls) = reader;
        // SAFETY: The program has passed this function with this pointer. The buffer has that much room.
        let n = unsafe { read(cls.0, self.position, self.buffer.as_mut_ptr().cast(), most) };
        match usize::try_from(n) {
            Ok(0) => Read1::Nothing,
            Ok(n) if n <= most => Read1::Bytes(n),
            Ok(n) => {
                self.connection.log(&format!("a content reader has returned {n}, with room for {most}"));
                Read1::Failed
            }
            Err(_) if n == -1 => Read1::End,
            Err(_) => Read1::Failed,
        }
    }

    /// Waits until the program resumes the connection, or for a while.
    fn wait(&mut self) -> Produced {
        let (suspended, resumed) = {
            let state = self.connection.state();
            (state.suspension.suspended, state.suspension.since_call)
        };
        if suspended || resumed {
            self.connection.park_stream();
            return Produced::Pending;
        }
        let state = self.connection.state();
        if let (Some(handle), Some(waker)) = (&state.loop_handle, state.waker.clone()) {
            handle.after(self.pause, move |_| waker.wake());
        }
        drop(state);
        self.pause = (self.pause * 2).min(LONGEST);
        Produced::Pending
    }

    /// Has what was written sent before the reader is called again: it may block.
    fn flush(&self) -> Produced {
        self.connection.state().wake();
        Produced::Pending
    }
}

impl Produce for ReaderStream {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        let Content::Reader(Reader { read, cls, len, block, .. }) = self.response.content else {
            return Produced::Abort;
        };
        {
            let mut state = self.connection.state();
            if state.suspension.suspended {
                return Produced::Pending;
            }
            state.suspension.since_call = false;
        }
        let left = len.map(|len| len - self.position);
        if left == Some(0) {
            return Produced::End;
        }
        let most = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX).min(block).min(out.room());
        if most == 0 {
            return Produced::More;
        }
        self.buffer.resize(block, 0);
        match self.call((read, cls), most) {
            Read1::Bytes(n) => {
                out.write(&self.buffer[..n]);
                self.position += n as u64;
                self.pause = SHORTEST;
                match left {
                    Some(left) if left == n as u64 => Produced::End,
                    _ if n == most => Produced::More,
                    _ => self.flush(),
                }
            }
            Read1::Nothing => self.wait(),
            // Before the length that was promised: uncork aborts.
            Read1::End => lock(&self.response.fields).trailers().map_or(Produced::End, Produced::Trailers),
            Read1::Failed => Produced::Abort,
        }
    }
}
