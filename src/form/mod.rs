//! HTML forms: `application/x-www-form-urlencoded` (WHATWG URL §5.1) and `multipart/form-data` (RFC 7578), parsed as
//! the bytes arrive.
//!
//! ```text
//!   Content-Type ──▶ FormParser::new
//!                        │
//!   pieces of a body ──▶ next ──▶ Field(name, filename, type) Data Data … FieldEnd   Field Data … FieldEnd   …
//!   its end ───────────▶ finish ──▶ the rest of the events, then None
//!
//!   receive    the form as a whole, for small ones             Form
//!   FormReader blocks: a thread reads the fields of a pipe     next_field, Read
//! ```
//!
//! [`FormParser`] performs no I/O and holds no content: the data of an event is borrowed from the piece. What it does
//! hold is bounded by [`FormLimits`]. Malformed input is an error: a part without a name, a line that ends in a bare
//! LF, a delimiter with other bytes behind it, or a form that ends before its end.
//!
//! A login form, received as a whole:
//!
//! ```
//! use uncork::{Action, Request, Response, form};
//!
//! fn login(req: &mut Request<'_>) -> Action {
//!     form::receive(req, 16 * 1024, |form| match (form.text("user"), form.text("password")) {
//!         (Some("ann"), Some("secret")) => Response::redirect("/"),
//!         _ => Response::text("wrong name or password\n").with_status(403),
//!     })
//! }
//! # fn check(_: impl uncork::Handler) {}
//! # check(login);
//! ```
//!
//! A form with a file. This one is received as a whole, too; `examples/upload.rs` streams files of any size to a disk.
//!
//! ```
//! use uncork::{Action, Request, Response, form};
//!
//! fn picture(req: &mut Request<'_>) -> Action {
//!     form::receive(req, 4 << 20, |form| match form.get("picture") {
//!         Some(file) if file.field.filename().is_some() => {
//!             let title = form.text("title").unwrap_or("untitled");
//!             Response::text(format!("{title}: {} bytes\n", file.value.len()))
//!         }
//!         _ => Response::text("no picture\n").with_status(400),
//!     })
//! }
//! # fn check(_: impl uncork::Handler) {}
//! # check(picture);
//! ```
//!
//! `form_urlencoded` decodes complete input only; a test compares with it. The crates that parse multipart without I/O
//! (`nostd-multipart`, `form-net`) were too young in 2026 to depend on.
//!
//! Not here: `text/plain` forms, which cannot be parsed reliably, and the content codings of parts.

mod delimiter;
mod error;
mod event;
mod field;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod limits;
mod multipart;
mod parameters;
mod parser;
mod part_head;
mod reader;
mod urlencoded;
mod whole;

pub use error::FormError;
pub use event::Event;
pub use field::Field;
pub use limits::FormLimits;
pub use parser::FormParser;
pub use reader::FormReader;
pub use whole::{Form, FormEntry, receive};

#[cfg(test)]
mod tests;
