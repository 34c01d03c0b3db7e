//! The boundary between C and Rust: exported functions, and panics, which must not cross it.

use std::{
    ffi::{CString, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use crate::types::{FromC, PanicCallback};

/// What the program has set by `MHD_set_panic_func`.
static PANIC: Mutex<Option<(PanicCallback, FromC<c_void>)>> = Mutex::new(None);

/// Calls `f`; after a panic, reports it to the program and returns `failure`.
pub(crate) fn guard<T>(name: &str, failure: T, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        report(name);
        failure
    })
}

/// Reports a panic. The panic itself was written to standard error by the standard library.
#[cold]
fn report(name: &str) {
    let registered = *PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    log::error!("{name} has panicked, which is a fault of the library");
    if let Some((callback, cls)) = registered {
        let reason = CString::new(name).unwrap_or_default();
        // SAFETY: The program registered the function with this pointer, and both strings live during the call.
        unsafe { callback(cls.0, c"uncork".as_ptr(), 0, reason.as_ptr()) };
    }
}

/// Defines an exported function. A panic in it is reported, and becomes its failure value.
macro_rules! export {
    (
        $(#[doc = $doc:literal])+
        fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?, or $failure:expr; $body:block
    ) => {
        $(#[doc = $doc])+
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            crate::boundary::guard(stringify!($name), $failure, || $body)
        }
    };
}

export! {
    /// Sets the function that is called when a fault of the library was caught; NULL for none.
    fn MHD_set_panic_func(callback: Option<PanicCallback>, cls: *mut c_void), or (); {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = callback.map(|callback| (callback, FromC(cls)));
    }
}
