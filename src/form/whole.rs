//! A form as a whole.

use std::fmt;

use super::{error::FormError, event::Event, field::Field, limits::FormLimits, parser::FormParser};
use crate::{
    api::{Action, Consumed, Request, Response, Upload, handler::too_large},
    h1::Headers,
};

/// A form that has been received as a whole: its fields, in the order in which they were sent. Names may repeat, as
/// those of check boxes do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    entries: Vec<FormEntry>,
}

/// A field of a form, and its value.
#[derive(Clone, PartialEq, Eq)]
pub struct FormEntry {
    /// Its name and, for a file, what the client says of it.
    pub field: Field,
    /// Its value, decoded.
    pub value: Vec<u8>,
}

impl FormEntry {
    /// Returns the value; `None` if it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

impl Form {
    /// Parses a body that has been received as a whole.
    ///
    /// ```
    /// use uncork::form::{Form, FormLimits};
    ///
    /// let form = Form::parse(b"application/x-www-form-urlencoded", b"a=1&b=x+y&a=2", FormLimits::default())?;
    /// assert_eq!((form.text("b"), form.text("c")), (Some("x y"), None));
    /// assert_eq!(form.all("a").filter_map(|entry| entry.text()).collect::<Vec<_>>(), ["1", "2"]);
    /// # Ok::<(), uncork::form::FormError>(())
    /// ```
    ///
    /// # Errors
    /// If the Content-Type is not that of a form, or the form is malformed or exceeds a limit.
    pub fn parse(content_type: &[u8], mut body: &[u8], limits: FormLimits) -> Result<Self, FormError> {
        let mut parser = FormParser::new(content_type, limits)?;
        let mut form = Self::default();
        while let Some(event) = parser.next(&mut body)? {
            form.push(event);
        }
        while let Some(event) = parser.finish()? {
            form.push(event);
        }
        Ok(form)
    }

    fn push(&mut self, event: Event<'_>) {
        match event {
            Event::Field(field) => self.entries.push(FormEntry { field, value: Vec::new() }),
            Event::Data(data) => {
                if let Some(entry) = self.entries.last_mut() {
                    entry.value.extend_from_slice(data);
                }
            }
            Event::FieldEnd => {}
        }
    }

    /// Returns the first field of that name. Names are case-sensitive.
    pub fn get(&self, name: &str) -> Option<&FormEntry> {
        self.entries.iter().find(|entry| entry.field.name() == name)
    }

    /// Returns the value of the first field of that name; `None` if there is no such field, or its value is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(FormEntry::text)
    }

    /// Returns all fields of that name, in order.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a FormEntry> + use<'a, 'n> {
        self.entries.iter().filter(move |entry| entry.field.name() == name)
    }

    /// Returns all fields, in order.
    pub fn entries(&self) -> &[FormEntry] {
        &self.entries
    }

    /// Converts the form into its fields, in order.
    pub fn into_entries(self) -> Vec<FormEntry> {
        self.entries
    }
}

impl fmt::Debug for FormEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password does not belong in a log.
        f.debug_struct("FormEntry").field("field", &self.field).field("value", &self.value.len()).finish()
    }
}

/// Receives a form as a whole, then performs the action that `then` returns for it. It has the default
/// [limits](FormLimits).
///
/// A body of more than `limit` bytes gets a 413 (Content Too Large), and so does a form beyond those limits. A body
/// that is not a form gets a 415 (Unsupported Media Type), and a malformed form a 400. If the body is incomplete, `then`
/// is not called.
///
/// ```
/// use uncork::{Request, Response, form};
///
/// let greet = |req: &mut Request<'_>| {
///     form::receive(req, 1024, |form| Response::text(format!("Hello, {}!\n", form.text("name").unwrap_or("world"))))
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(greet);
/// ```
pub fn receive<A: Into<Action>>(
    req: &Request<'_>,
    limit: usize,
    then: impl FnOnce(Form) -> A + Send + 'static,
) -> Action {
    match FormParser::of_request(req, FormLimits::default()) {
        Ok(parser) => Action::Receive(Box::new(Collect { parser, form: Form::default(), left: limit, then })),
        Err(error) => Response::from(error).into(),
    }
}

/// Collects a form for [`receive`].
struct Collect<F> {
    parser: FormParser,
    form: Form,
    /// Bytes of the body that may still come.
    left: usize,
    then: F,
}

impl<A: Into<Action>, F: FnOnce(Form) -> A + Send> Upload for Collect<F> {
    fn data(&mut self, mut chunk: &[u8]) -> Consumed {
        let Some(left) = self.left.checked_sub(chunk.len()) else {
            return Consumed::Stop(too_large().into());
        };
        self.left = left;
        loop {
            match self.parser.next(&mut chunk) {
                Ok(Some(event)) => self.form.push(event),
                Ok(None) => return Consumed::All,
                Err(error) => return Consumed::Stop(Response::from(error).into()),
            }
        }
    }

    fn end(mut self: Box<Self>, _: &Headers) -> Action {
        loop {
            match self.parser.finish() {
                Ok(Some(event)) => self.form.push(event),
                Ok(None) => return (self.then)(self.form).into(),
                Err(error) => return Response::from(error).into(),
            }
        }
    }
}
