//! The exported names of the variadic functions, which `variadic.c` defines.
//!
//! Stable Rust cannot define a variadic function, and a shared library made by Rust exports no symbols of C. So each
//! name is a function of one instruction: a jump, after which all argument registers and the stack are as the caller
//! left them.

use std::arch::naked_asm;

unsafe extern "C" {
    fn uncork_mhd_start_daemon();
    fn uncork_mhd_start_daemon_va();
    fn uncork_mhd_set_connection_option();
}

macro_rules! jump {
    ($(#[$doc:meta])* $name:ident to $target:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!("jmp {}", sym $target);
            #[cfg(target_arch = "aarch64")]
            naked_asm!("b {}", sym $target);
        }
    };
}

jump!(
    /// Starts a daemon, with options up to `MHD_OPTION_END`.
    MHD_start_daemon to uncork_mhd_start_daemon
);
jump!(
    /// Starts a daemon, with options in a `va_list`.
    MHD_start_daemon_va to uncork_mhd_start_daemon_va
);
jump!(
    /// Sets an option of a connection.
    MHD_set_connection_option to uncork_mhd_set_connection_option
);
