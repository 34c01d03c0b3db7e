/* What the tests of upgrades share: every mode, and clients. With the arguments PORT CERTIFICATE KEY the daemons speak
   TLS, and the clients connect to the proxy at that port. */
#include "check.h"
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>

/* A daemon in one of the modes. Without threads of its own, a thread of the test runs it. */
struct mode {
  const char *name;
  unsigned flags, pool;
  enum { NONE, SELECT, EPOLL } loop;
};

static const struct mode modes[] = {
  { "thread", MHD_USE_INTERNAL_POLLING_THREAD, 0, NONE },
  { "pool", MHD_USE_INTERNAL_POLLING_THREAD, 3, NONE },
  { "thread per connection", MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NONE },
  { "select", MHD_NO_FLAG, 0, SELECT },
  { "epoll", MHD_USE_EPOLL, 0, EPOLL },
};
/* With one argument, every other mode: valgrind is slow. */
static int step = 1;
#define EACH_MODE(mode) (const struct mode *mode = modes; mode < modes + sizeof (modes) / sizeof (*modes); mode += step)

static struct {
  struct MHD_Daemon *daemon;
  enum { RUNS, ENDS } state;
  pthread_t thread;
  const struct mode *mode;
  uint16_t port;
  int bell[2], turns;
  /* The loop calls MHD_upgrade_wake_all. */
  int wakes_all;
} server;

/* The port of the proxy; 0 without TLS. */
static uint16_t proxy;
static char certificate[10000], key[10000];

static inline void
read_file (const char *path, char *text, size_t room)
{
  FILE *file = fopen (path, "r");

  CHECK (file != NULL && fread (text, 1, room - 1, file) > 0);
  fclose (file);
}

static inline void
arguments (int argc, char **argv)
{
  if (argc == 2)
    step = 2;
  if (argc == 4) {
    proxy = (uint16_t) atoi (argv[1]);
    read_file (argv[2], certificate, sizeof (certificate));
    read_file (argv[3], key, sizeof (key));
  }
}

/* What has happened, for the tests to wait for. */
static sem_t completed, closed;
static int completions, completion_code, closings, log_lines;
static char last_line[1000];

static void
on_log (void *cls, const char *format, va_list arguments)
{
  (void) cls;
  vsnprintf (last_line, sizeof (last_line), format, arguments);
  __atomic_add_fetch (&log_lines, 1, __ATOMIC_SEQ_CST);
}

static void
on_completed (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  (void) cls, (void) connection;
  free (*req_cls);
  completion_code = (int) code;
  __atomic_add_fetch (&completions, 1, __ATOMIC_SEQ_CST);
  CHECK (sem_post (&completed) == 0);
}

static void
on_connection (void *cls, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code)
{
  (void) cls, (void) connection, (void) context;
  if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
    __atomic_add_fetch (&closings, 1, __ATOMIC_SEQ_CST);
    CHECK (sem_post (&closed) == 0);
  }
}

/* Ends the wait of the thread that runs the daemon. Nothing else does that but the daemon's descriptor and timeout. */
static inline void
ring (void)
{
  CHECK (write (server.bell[1], "x", 1) == 1);
}

static void *
run_loop (void *cls)
{
  char byte;

  (void) cls;
  while (__atomic_load_n (&server.state, __ATOMIC_SEQ_CST) == RUNS) {
    int64_t left;

    /* Here, since no two threads may use the daemon's loop at once. */
    if (__atomic_exchange_n (&server.wakes_all, 0, __ATOMIC_SEQ_CST))
      CHECK (MHD_upgrade_wake_all (server.daemon) == MHD_YES);
    left = MHD_get_timeout64s (server.daemon);
    if (server.mode->loop == SELECT) {
      fd_set set;
      int max = server.bell[0];
      struct timeval timeout = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };

      FD_ZERO (&set);
      FD_SET (server.bell[0], &set);
      CHECK (MHD_get_fdset (server.daemon, &set, NULL, NULL, &max) == MHD_YES);
      CHECK (select (max + 1, &set, NULL, NULL, left < 0 ? NULL : &timeout) >= 0);
      CHECK (MHD_run_from_select (server.daemon, &set, NULL, NULL) == MHD_YES);
    } else {
      struct pollfd fds[] = { { .fd = server.bell[0], .events = POLLIN }, { .events = POLLIN } };

      fds[1].fd = MHD_get_daemon_info (server.daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
      CHECK (poll (fds, 2, (int) left) >= 0);
      CHECK (MHD_run (server.daemon) == MHD_YES);
    }
    while (read (server.bell[0], &byte, 1) == 1)
      ;
    __atomic_add_fetch (&server.turns, 1, __ATOMIC_SEQ_CST);
  }
  return NULL;
}

static void
serve (const struct mode *mode, MHD_AccessHandlerCallback access, unsigned timeout)
{
  server.mode = mode;
  server.state = RUNS;
  CHECK (sem_init (&completed, 0, 0) == 0 && sem_init (&closed, 0, 0) == 0);
  completions = closings = log_lines = 0;
  server.daemon = MHD_start_daemon (
    mode->flags | (proxy ? MHD_USE_TLS : 0) | MHD_USE_ERROR_LOG | MHD_ALLOW_UPGRADE | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, access, NULL,
    MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
    MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
    MHD_OPTION_CONNECTION_TIMEOUT, timeout, MHD_OPTION_HTTPS_MEM_CERT, proxy ? certificate : NULL,
    MHD_OPTION_HTTPS_MEM_KEY, proxy ? key : NULL,
    mode->pool ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, mode->pool, MHD_OPTION_END);
  server.port = port_of (server.daemon);
  if (mode->loop != NONE) {
    CHECK (pipe (server.bell) == 0 && fcntl (server.bell[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK (pthread_create (&server.thread, NULL, run_loop, NULL) == 0);
  }
}

/* Stops the daemon. Then every request is completed, and every connection closed. */
static void
stop (void)
{
  if (server.mode->loop != NONE) {
    __atomic_store_n (&server.state, ENDS, __ATOMIC_SEQ_CST);
    ring ();
    CHECK (pthread_join (server.thread, NULL) == 0);
    close (server.bell[0]);
    close (server.bell[1]);
  }
  MHD_stop_daemon (server.daemon);
}

#define UPGRADE(target) \
  "GET " target " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"

/* Sends all. Fails if the peer does not take it. */
static void
put_all (int fd, const void *bytes, size_t len)
{
  const char *from = bytes;

  while (len > 0) {
    ssize_t n = send (fd, from, len, MSG_NOSIGNAL);

    CHECK (n > 0);
    from += n;
    len -= (size_t) n;
  }
}

/* Reads exactly that many bytes. */
static void
get_all (int fd, void *bytes, size_t len)
{
  char *to = bytes;

  while (len > 0) {
    ssize_t n = recv (fd, to, len, 0);

    if (n <= 0)
      fprintf (stderr, "%s: %zu bytes are missing\n", server.mode->name, len);
    CHECK (n > 0);
    to += n;
    len -= (size_t) n;
  }
}

/* Reads the head of a response, byte by byte, and checks its status. */
static void
get_head_at (int line, int fd, int status, char *head, size_t room)
{
  size_t len = 0;
  char own[4096];

  if (head == NULL) {
    head = own;
    room = sizeof (own);
  }
  do {
    ssize_t n = len < room - 1 ? recv (fd, head + len, 1, 0) : 0;

    if (n != 1) {
      fprintf (stderr, "line %d, %s: the head ends early\n", line, server.mode->name);
      exit (1);
    }
    head[++len] = '\0';
  } while (len < 4 || strcmp (head + len - 4, "\r\n\r\n") != 0);
  if (atoi (head + 9) != status) {
    fprintf (stderr, "line %d, %s: expected %d, got %s\n", line, server.mode->name, status, head);
    exit (1);
  }
}
#define GET_HEAD(fd, status) get_head_at (__LINE__, fd, status, NULL, 0)

/* Connects to the daemon. `truncated`: the end of what the client sends is no normal one; over TLS only. */
static inline int
connect_to (bool truncated)
{
  uint16_t port = htons (server.port);
  int fd = dial (proxy ? proxy : server.port);

  if (proxy) {
    put_all (fd, &port, sizeof (port));
    put_all (fd, truncated ? "\1" : "\0", 1);
  }
  return fd;
}

/* Connects, and upgrades to the protocol of a target. */
#define UPGRADED(target) upgraded_at (__LINE__, UPGRADE (target))
static inline int
upgraded_at (int line, const char *request)
{
  int fd = connect_to (false);

  put (fd, request);
  get_head_at (line, fd, 101, NULL, 0);
  return fd;
}

static inline void
expect_bytes_at (int line, int fd, const char *text)
{
  char got[200] = "";

  get_all (fd, got, strlen (text));
  if (strcmp (got, text) != 0) {
    fprintf (stderr, "line %d, %s: expected \"%s\", got \"%s\"\n", line, server.mode->name, text, got);
    exit (1);
  }
}
#define EXPECT_BYTES(fd, text) expect_bytes_at (__LINE__, fd, text)

/* Reads the end of the stream: 0 if it is one without an error. */
static inline int
end_of (int fd)
{
  char byte;
  ssize_t n = recv (fd, &byte, 1, 0);

  CHECK (n <= 0);
  return n == 0 ? 0 : errno;
}

/* Closes so that the peer sees a reset. */
static inline void
reset (int fd)
{
  struct linger none = { .l_onoff = 1, .l_linger = 0 };

  CHECK (setsockopt (fd, SOL_SOCKET, SO_LINGER, &none, sizeof (none)) == 0);
  close (fd);
}

static inline bool
is_silent (int fd, int milliseconds)
{
  struct pollfd one = { .fd = fd, .events = POLLIN };

  return poll (&one, 1, milliseconds) == 0;
}

/* Bytes that differ from their neighbours. */
static inline char *
pattern (size_t len)
{
  char *bytes = malloc (len);

  for (size_t i = 0; i < len; i++)
    bytes[i] = (char) (i * 31 + i / 251);
  return bytes;
}

static inline double
seconds (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}
