//! What uncork sends for a response of the program.

use std::sync::{Arc, atomic::Ordering};

use uncork::Response;

use crate::{
    connection::MHD_Connection,
    response::{Content, MHD_Response},
    shared::lock,
    stream::{FileStream, MemoryStream, ReaderStream},
    types::response_flag,
};

/// Returns the response for one request.
pub(crate) fn response(of: Arc<MHD_Response>, status: u16, connection: &Arc<MHD_Connection>) -> Response {
    let (headers, closes) = lock(&of.fields).made();
    let only_1_0 = of.flags.load(Ordering::Relaxed) & response_flag::HTTP_1_0_ONLY != 0;
    let response = match &of.content {
        // The upgrade is in `switch`.
        Content::Empty | Content::Upgrade(_) => Response::new(status),
        Content::Bytes(bytes, _) => Response::new(status).body(bytes.clone()),
        Content::Memory(memory) => {
            let len = memory.len();
            Response::stream(MemoryStream::new(memory.clone())).length(len).with_status(status)
        }
        Content::File(file, offset, len) => match (file.try_clone(), len) {
            (Ok(file), Some(len)) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
                Response::file(file, *offset..offset.saturating_add(*len)).with_status(status)
            }
            (Ok(file), len) => Response::stream(FileStream::new(file, *len)).length(*len).with_status(status),
            (Err(error), _) => {
                connection.log(&format!("cannot send a file: {error}"));
                return Response::new(500);
            }
        },
        Content::Reader(reader) => {
            let len = reader.len;
            Response::stream(ReaderStream::new(of.clone(), connection.clone())).length(len).with_status(status)
        }
    };
    let response = response.with_headers(headers);
    if closes || only_1_0 { response.close() } else { response }
}
