//! The post processor: fields of a form, passed to the program as the body arrives. `uncork::form` parses.
//!
//! ```text
//!   MHD_post_process(data, size) ─▶ FormParser ─▶ Field, Data, FieldEnd ─▶ Delivery ─▶ the program's iterator
//!                                                                          NULs, pieces, offsets
//! ```

use std::{
    ffi::{c_char, c_void},
    ptr::{null, null_mut},
    slice,
};

use libc::size_t;
use uncork::form::{Event, Field, FormError, FormLimits, FormParser};

use crate::{
    connection::MHD_Connection,
    types::{FromC, NO, PostDataIterator, Result, YES, kind},
};

/// Bytes of a program's buffer, at least.
const BUFFER_MIN: usize = 256;

/// `struct MHD_PostProcessor`, which C knows by its address only.
pub struct MHD_PostProcessor {
    parser: FormParser,
    progress: Progress,
    delivery: Delivery,
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// Nothing has been processed.
    Empty,
    InForm,
    /// A line end has ended an urlencoded form.
    AfterLine,
    Failed,
}

/// What the iterator is called with.
struct Delivery {
    iterator: PostDataIterator,
    cls: FromC<c_void>,
    buffer_size: usize,
    key: Vec<u8>,
    filename: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    transfer_encoding: Option<Vec<u8>>,
    /// Bytes of the value that were passed on.
    offset: u64,
    /// The iterator has been called for this field.
    is_called: bool,
    /// A piece of the value, with a NUL behind it.
    piece: Vec<u8>,
}

/// The program does not want more, or the form is invalid.
struct Stopped;

impl From<FormError> for Stopped {
    fn from(_: FormError) -> Self {
        Self
    }
}

impl MHD_PostProcessor {
    fn new(content_type: &[u8], buffer_size: usize, iterator: PostDataIterator, cls: FromC<c_void>) -> Option<Self> {
        // The fields are not held, so their number is not limited. Names have room as in the original, or more.
        let limits = FormLimits { fields: usize::MAX, head: buffer_size.max(FormLimits::default().head) };
        let delivery = Delivery {
            iterator,
            cls,
            buffer_size,
            key: Vec::new(),
            filename: None,
            content_type: None,
            transfer_encoding: None,
            offset: 0,
            is_called: false,
            piece: Vec::new(),
        };
        Some(Self { parser: FormParser::new(content_type, limits).ok()?, progress: Progress::Empty, delivery })
    }

    fn process(&mut self, data: &[u8]) -> std::result::Result<(), Stopped> {
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        match self.progress {
            Progress::Failed => return Err(Stopped),
            Progress::AfterLine if data.iter().all(is_line_end) => return Ok(()),
            Progress::AfterLine => return Err(Stopped),
            Progress::Empty | Progress::InForm => self.progress = Progress::InForm,
        }
        let end = data.iter().position(is_line_end).filter(|_| !self.parser.is_multipart());
        let (mut form, line_end) = data.split_at(end.unwrap_or(data.len()));
        while let Some(event) = self.parser.next(&mut form)? {
            self.delivery.deliver(event)?;
        }
        if line_end.is_empty() {
            return Ok(());
        }
        while let Some(event) = self.parser.finish()? {
            self.delivery.deliver(event)?;
        }
        self.progress = Progress::AfterLine;
        self.process(line_end)
    }

    fn finish(&mut self) -> std::result::Result<(), Stopped> {
        match self.progress {
            Progress::Empty | Progress::AfterLine => return Ok(()),
            Progress::Failed => return Err(Stopped),
            Progress::InForm => {}
        }
        while let Some(event) = self.parser.finish()? {
            // The form may have been truncated, and this name with it.
            if matches!(event, Event::Field(_)) {
                return Err(Stopped);
            }
            self.delivery.deliver(event)?;
        }
        Ok(())
    }
}

fn with_nul(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0]].concat()
}

impl Delivery {
    fn deliver(&mut self, event: Event<'_>) -> std::result::Result<(), Stopped> {
        match event {
            Event::Field(field) => {
                self.begin(&field);
                Ok(())
            }
            Event::Data(data) => data.chunks(self.buffer_size).try_for_each(|piece| self.call(piece)),
            // An empty value.
            Event::FieldEnd if !self.is_called => self.call(&[]),
            Event::FieldEnd => Ok(()),
        }
    }

    fn begin(&mut self, field: &Field) {
        self.key = with_nul(field.name_bytes());
        self.filename = field.filename_bytes().map(with_nul);
        self.content_type = field.content_type_bytes().map(with_nul);
        self.transfer_encoding = field.transfer_encoding_bytes().map(with_nul);
        (self.offset, self.is_called) = (0, false);
    }

    fn call(&mut self, piece: &[u8]) -> std::result::Result<(), Stopped> {
        self.piece.clear();
        self.piece.extend_from_slice(piece);
        self.piece.push(0);
        let text = |text: &Option<Vec<u8>>| text.as_ref().map_or(null(), |text| text.as_ptr().cast());
        // SAFETY: The program has passed this function with this pointer. The strings end with NUL, and live during the
        // call.
        let result = unsafe {
            (self.iterator)(
                self.cls.0,
                kind::POSTDATA,
                self.key.as_ptr().cast(),
                text(&self.filename),
                text(&self.content_type),
                text(&self.transfer_encoding),
                self.piece.as_ptr().cast(),
                self.offset,
                piece.len(),
            )
        };
        self.is_called = true;
        self.offset += piece.len() as u64;
        if result == NO { Err(Stopped) } else { Ok(()) }
    }
}

export! {
    /// Creates a post processor for the body of a request; NULL if its Content-Type is not that of a form.
    fn MHD_create_post_processor(
        connection: *const MHD_Connection, buffer_size: size_t, iterator: Option<PostDataIterator>, cls: *mut c_void,
    ) -> *mut MHD_PostProcessor, or null_mut(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return null_mut() };
        let Some(iterator) = iterator.filter(|_| buffer_size >= BUFFER_MIN) else {
            connection.log("MHD_create_post_processor: expected an iterator and a buffer of at least 256 bytes");
            return null_mut();
        };
        let Some(field) = connection.lookup(kind::HEADER, Some(b"Content-Type")) else { return null_mut() };
        if field.value.0.is_null() {
            return null_mut();
        }
        // SAFETY: A value has this length, and lives as long as the request.
        let content_type = unsafe { slice::from_raw_parts(field.value.0.cast_const().cast::<u8>(), field.value_len) };
        let processor = MHD_PostProcessor::new(content_type, buffer_size, iterator, FromC(cls));
        processor.map_or(null_mut(), |processor| Box::into_raw(Box::new(processor)))
    }
}

export! {
    /// Processes the next bytes of the body. Returns `MHD_NO` if the form is invalid, or the iterator has returned it.
    fn MHD_post_process(processor: *mut MHD_PostProcessor, data: *const c_char, size: size_t) -> Result, or NO; {
        if size == 0 {
            return YES;
        }
        // SAFETY: By the contract of the interface it is NULL, or a post processor that no other call uses.
        let processor = unsafe { processor.as_mut() };
        let Some(processor) = processor.filter(|_| !data.is_null()) else { return NO };
        // SAFETY: By the contract of the interface there are that many bytes.
        let data = unsafe { slice::from_raw_parts(data.cast::<u8>(), size) };
        if processor.process(data).is_err() {
            processor.progress = Progress::Failed;
            return NO;
        }
        YES
    }
}

export! {
    /// Passes the rest of the form to the iterator, and frees the post processor. Returns `MHD_NO` if the form is
    /// invalid or has not ended; NULL is allowed.
    fn MHD_destroy_post_processor(processor: *mut MHD_PostProcessor) -> Result, or NO; {
        if processor.is_null() {
            return YES;
        }
        // SAFETY: By the contract of the interface it came from `MHD_create_post_processor`, and is used no more.
        let mut processor = unsafe { Box::from_raw(processor) };
        if processor.finish().is_ok() { YES } else { NO }
    }
}
