/* What stable Rust cannot define: functions with variadic arguments, and calls with a `va_list`.
 *
 * The functions here are hidden. Each reads its arguments into plain values and calls Rust. `variadic.rs` exports the
 * names of the interface, which jump to them.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

/* The layout of `struct MHD_OptionItem`, which is also how Rust gets every option. */
struct item {
  int option;
  intptr_t value;
  void *pointer;
};

/* How the arguments of an option are passed. */
enum abi { UNKNOWN, INT, UNSIGNED, SIZE, POINTER, TWO_POINTERS, SIZE_AND_POINTER, UNSIGNED_AND_POINTER };

/* By number, see `options.rs` for the names. */
static const unsigned char abi_of[] = {
  [1] = SIZE, [2] = UNSIGNED, [3] = UNSIGNED, [4] = TWO_POINTERS, [5] = UNSIGNED, [6] = POINTER, [7] = TWO_POINTERS,
  [8] = POINTER, [9] = POINTER, [10] = INT, [11] = POINTER, [12] = INT, [13] = TWO_POINTERS, [14] = UNSIGNED,
  [15] = POINTER, [16] = TWO_POINTERS, [17] = SIZE_AND_POINTER, [18] = UNSIGNED, [19] = SIZE, [20] = POINTER,
  [21] = SIZE, [22] = POINTER, [23] = UNSIGNED, [24] = POINTER, [25] = UNSIGNED, [26] = POINTER, [27] = TWO_POINTERS,
  [28] = UNSIGNED, [29] = INT, [30] = TWO_POINTERS, [31] = POINTER, [32] = UNSIGNED, [33] = INT, [34] = INT,
  [35] = SIZE_AND_POINTER, [36] = UNSIGNED, [37] = POINTER, [38] = INT, [39] = INT, [40] = UNSIGNED_AND_POINTER,
  [41] = UNSIGNED, [42] = UNSIGNED, [43] = INT,
};

void *uncork_mhd_start (unsigned int flags, uint16_t port, void *apc, void *apc_cls, void *dh, void *dh_cls,
                        const struct item *items, size_t count);
int uncork_mhd_connection_timeout (void *connection, int option, unsigned int seconds);

void *uncork_mhd_start_daemon_va (unsigned int flags, uint16_t port, void *apc, void *apc_cls, void *dh, void *dh_cls,
                                  va_list ap);
void *uncork_mhd_start_daemon (unsigned int flags, uint16_t port, void *apc, void *apc_cls, void *dh, void *dh_cls,
                               ...);
int uncork_mhd_set_connection_option (void *connection, int option, ...);
void uncork_mhd_log (void (*log) (void *, const char *, va_list), void *cls, const char *line);

void *
uncork_mhd_start_daemon_va (unsigned int flags, uint16_t port, void *apc, void *apc_cls, void *dh, void *dh_cls,
                            va_list ap)
{
  struct item few[32];
  struct item *items = few;
  size_t count = 0, room = sizeof (few) / sizeof (few[0]);
  void *daemon;

  for (;;) {
    /* Nothing behind the first END is read: `wanted ? OPTION : END, value` is a way to leave out an option. */
    struct item item = { va_arg (ap, int), 0, NULL };
    size_t number = (size_t) item.option;

    if (item.option == 0)
      break;
    switch (item.option > 0 && number < sizeof (abi_of) ? abi_of[number] : UNKNOWN) {
    case INT:
      item.value = va_arg (ap, int);
      break;
    case UNSIGNED:
      item.value = (intptr_t) va_arg (ap, unsigned int);
      break;
    case SIZE:
      item.value = (intptr_t) va_arg (ap, size_t);
      break;
    case POINTER:
      item.pointer = va_arg (ap, void *);
      break;
    case TWO_POINTERS:
      item.value = (intptr_t) va_arg (ap, void *);
      item.pointer = va_arg (ap, void *);
      break;
    case SIZE_AND_POINTER:
      item.value = (intptr_t) va_arg (ap, size_t);
      item.pointer = va_arg (ap, void *);
      break;
    case UNSIGNED_AND_POINTER:
      item.value = (intptr_t) va_arg (ap, unsigned int);
      item.pointer = va_arg (ap, void *);
      break;
    default:
      break;
    }
    if (count == room) {
      struct item *more = malloc (2 * room * sizeof (*more));
      size_t i;

      if (more == NULL) {
        if (items != few)
          free (items);
        return NULL;
      }
      for (i = 0; i < count; i++)
        more[i] = items[i];
      if (items != few)
        free (items);
      items = more;
      room *= 2;
    }
    items[count++] = item;
    /* How many arguments an unknown option has is not known. Rust reports it. */
    if (item.option < 0 || number >= sizeof (abi_of))
      break;
  }
  daemon = uncork_mhd_start (flags, port, apc, apc_cls, dh, dh_cls, items, count);
  if (items != few)
    free (items);
  return daemon;
}

void *
uncork_mhd_start_daemon (unsigned int flags, uint16_t port, void *apc, void *apc_cls, void *dh, void *dh_cls, ...)
{
  va_list ap;
  void *daemon;

  va_start (ap, dh_cls);
  daemon = uncork_mhd_start_daemon_va (flags, port, apc, apc_cls, dh, dh_cls, ap);
  va_end (ap);
  return daemon;
}

int
uncork_mhd_set_connection_option (void *connection, int option, ...)
{
  unsigned int seconds = 0;
  va_list ap;

  va_start (ap, option);
  if (option == 0)
    seconds = va_arg (ap, unsigned int);
  va_end (ap);
  return uncork_mhd_connection_timeout (connection, option, seconds);
}

static void
log_with (void (*log) (void *, const char *, va_list), void *cls, const char *format, ...)
{
  va_list ap;

  va_start (ap, format);
  log (cls, format, ap);
  va_end (ap);
}

/* Gives a line to the logger of the program, which expects what `vprintf` takes. */
void
uncork_mhd_log (void (*log) (void *, const char *, va_list), void *cls, const char *line)
{
  log_with (log, cls, "%s\n", line);
}
