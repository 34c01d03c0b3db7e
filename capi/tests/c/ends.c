/* How requests and connections end: codes, timeouts, limits, a stop with suspended connections. */
#include "check.h"

static sem_t ended, waits, closed;
static int code = -1;
static struct MHD_Connection *suspended;

static void
on_completed (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode toe)
{
  (void) cls, (void) connection, (void) req_cls;
  code = (int) toe;
  sem_post (&ended);
}

static void
on_connection (void *cls, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode toe)
{
  (void) cls, (void) connection, (void) context;
  if (toe == MHD_CONNECTION_NOTIFY_CLOSED)
    sem_post (&closed);
}

HANDLER (answer)
{
  const char *path;
  size_t size;

  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = &ended;
    sem_post (&waits);
    CHECK (MHD_get_connection_URI_path_n (connection, &path, &size) == MHD_YES);
    CHECK (size == strlen (url) && strcmp (path, url) == 0);
    if (strcmp (url, "/patient") == 0) {
      CHECK (MHD_set_connection_option (connection, MHD_CONNECTION_OPTION_TIMEOUT, 10u) == MHD_YES);
      CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_TIMEOUT)->connection_timeout == 10);
      CHECK (MHD_set_connection_option (connection, (enum MHD_CONNECTION_OPTION) 77, 10u) == MHD_NO);
    }
    if (strcmp (url, "/suspend") == 0) {
      suspended = connection;
      MHD_suspend_connection (connection);
    }
    return strcmp (url, "/no") == 0 ? MHD_NO : MHD_YES;
  }
  *upload_data_size = 0;
  return respond (connection, 200, "ok\n");
}

static struct MHD_Daemon *
serve (unsigned flags)
{
  return MHD_start_daemon (flags | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, NULL, MHD_OPTION_NOTIFY_COMPLETED,
                           on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
                           MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) 1, MHD_OPTION_END);
}

static void
in_mode (unsigned flags)
{
  struct MHD_Daemon *daemon = serve (flags);
  uint16_t port = port_of (daemon);
  struct timespec begin, end;
  int fd;
  char *text;

  EXPECT (ask (port, GET ("/")), 200, "ok\n");
  AWAIT (&waits), AWAIT (&ended), AWAIT (&closed);
  CHECK (code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  text = ask (port, GET ("/no"));
  CHECK (*text == '\0');
  free (text);
  AWAIT (&waits), AWAIT (&ended), AWAIT (&closed);
  CHECK (code == MHD_REQUEST_TERMINATED_WITH_ERROR);
  /* The client disconnects within its body. */
  fd = dial (port);
  put (fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
  AWAIT (&waits);
  close (fd);
  AWAIT (&ended), AWAIT (&closed);
  CHECK (code == MHD_REQUEST_TERMINATED_CLIENT_ABORT);
  /* A body that does not come. */
  fd = dial (port);
  put (fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
  AWAIT (&waits), AWAIT (&ended);
  CHECK (code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED);
  close (fd);
  AWAIT (&closed);
  /* The same, but the connection has a longer timeout of its own. */
  fd = dial (port);
  put (fd, "POST /patient HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
  AWAIT (&waits);
  usleep (1500 * 1000);
  put (fd, "ok");
  EXPECT (rest (fd, NULL), 200, "ok\n");
  AWAIT (&ended), AWAIT (&closed);
  CHECK (code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  /* An idle connection is closed after a second. */
  clock_gettime (CLOCK_MONOTONIC, &begin);
  text = rest (dial (port), NULL);
  clock_gettime (CLOCK_MONOTONIC, &end);
  CHECK (*text == '\0' && end.tv_sec - begin.tv_sec <= 10);
  free (text);
  AWAIT (&closed);
  /* The client disconnects while it is suspended: the program may still resume it, and learns of the end then. */
  fd = dial (port);
  put (fd, "GET /suspend HTTP/1.1\r\nHost: x\r\n\r\n");
  AWAIT (&waits);
  close (fd);
  usleep (200 * 1000);
  CHECK (sem_trywait (&ended) != 0);
  MHD_resume_connection (suspended);
  AWAIT (&ended), AWAIT (&closed);
  CHECK (code == MHD_REQUEST_TERMINATED_CLIENT_ABORT);
  /* A stop ends suspended connections, of clients that are there and of one that has disconnected. */
  fd = dial (port);
  put (fd, "GET /suspend HTTP/1.1\r\nHost: x\r\n\r\n");
  AWAIT (&waits);
  close (fd);
  usleep (200 * 1000);
  fd = dial (port);
  put (fd, "GET /suspend HTTP/1.1\r\nHost: x\r\n\r\n");
  AWAIT (&waits);
  MHD_stop_daemon (daemon);
  AWAIT (&ended), AWAIT (&ended), AWAIT (&closed), AWAIT (&closed);
  CHECK (sem_trywait (&ended) != 0 && sem_trywait (&closed) != 0);
  close (fd);
}

static int asked;

/* Suspends with the last piece of a body; with the response queued before, or after the resumption. */
HANDLER (suspend_at_the_end)
{
  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = &ended;
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    *upload_data_size = 0;
    if (strcmp (url, "/queued") == 0)
      CHECK (respond (connection, 200, "resumed\n") == MHD_YES);
    suspended = connection;
    MHD_suspend_connection (connection);
    sem_post (&waits);
    return MHD_YES;
  }
  __atomic_add_fetch (&asked, 1, __ATOMIC_SEQ_CST);
  return respond (connection, 200, "resumed\n");
}

static void
suspended_at_the_end (void)
{
  static const char *const requests[] = {
    "POST / HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "POST /queued HTTP/1.1\r\nContent-Length: 3\r\n" END "abc" };
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, suspend_at_the_end,
                                                NULL, MHD_OPTION_END);
  uint16_t port = port_of (daemon);

  for (int i = 0; i < 2; i++) {
    int fd = dial (port);
    char byte;

    asked = 0;
    put (fd, requests[i]);
    AWAIT (&waits);
    usleep (50000);
    CHECK (__atomic_load_n (&asked, __ATOMIC_SEQ_CST) == 0);
    CHECK (recv (fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    MHD_resume_connection (suspended);
    EXPECT (rest (fd, NULL), 200, "resumed\n");
    CHECK (asked == 1 - i);
  }
  MHD_stop_daemon (daemon);
}

int
main (void)
{
  struct MHD_Daemon *daemon;
  uint16_t port;
  char *text;
  int one, two;

  CHECK (sem_init (&ended, 0, 0) == 0 && sem_init (&waits, 0, 0) == 0 && sem_init (&closed, 0, 0) == 0);
  in_mode (MHD_USE_INTERNAL_POLLING_THREAD);
  in_mode (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION);
  suspended_at_the_end ();

  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned) 1,
                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 2048, MHD_OPTION_END);
  port = port_of (daemon);
  one = dial (port);
  put (one, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  AWAIT (&waits);
  two = dial (port);
  text = rest (two, NULL); /* One too many from this address. */
  CHECK (*text == '\0');
  free (text);
  CHECK (MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections == 1);
  close (one);
  MHD_stop_daemon (daemon);
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 2048,
                             MHD_OPTION_END);
  port = port_of (daemon);
  text = malloc (4000);
  sprintf (text, "GET / HTTP/1.1\r\nX-Long: %02999d\r\n" END, 1);
  EXPECT (ask (port, text), 431, NULL);
  free (text);
  MHD_stop_daemon (daemon);
  return 0;
}
