/* Programs that respond some time after the request has arrived, without suspending the connection. */
#include "check.h"

static struct MHD_Connection *waiting;
static int calls, ended;

/* Responds when it is called for the end of the request the fifth time. */
HANDLER (fifth)
{
  int *count = *req_cls;

  UNUSED;
  if (count == NULL) {
    *req_cls = calloc (1, sizeof (int));
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    *upload_data_size = 0;
    return MHD_YES;
  }
  return ++*count < 5 ? MHD_YES : respond (connection, 200, "fifth");
}

static void
count_ended (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  (void) connection;
  if (cls != NULL)
    CHECK (code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  free (*req_cls);
  *req_cls = NULL;
  __atomic_add_fetch (&ended, 1, __ATOMIC_SEQ_CST);
}

/* Never responds: the program's loop does. */
HANDLER (note)
{
  UNUSED;
  CHECK (ended == 0);
  if (*req_cls == NULL) {
    *req_cls = malloc (1);
    /* The whole request has not been read: nothing can be queued by others yet. */
    return MHD_YES;
  }
  *upload_data_size = 0;
  waiting = connection;
  calls++;
  return MHD_YES;
}

static void *
client (void *cls)
{
  int *port = cls;

  return ask ((uint16_t) *port, "POST / HTTP/1.1\r\nContent-Length: 3\r\n" END "a=1");
}

/* The program's own loop responds, between two calls of the daemon. */
static void
between_calls (void)
{
  struct MHD_Daemon *daemon =
    MHD_start_daemon (MHD_USE_ERROR_LOG, 0, NULL, NULL, note, NULL, MHD_OPTION_NOTIFY_COMPLETED, count_ended, &ended,
                      MHD_OPTION_END);
  int port = port_of (daemon);
  pthread_t thread;
  void *text;

  ended = calls = 0;
  waiting = NULL;
  CHECK (pthread_create (&thread, NULL, client, &port) == 0);
  /* Until it has been called more than once for the end of the request. */
  for (int i = 0; i < 2000 && calls < 4; i++)
    CHECK (MHD_run_wait (daemon, 10) == MHD_YES);
  CHECK (calls >= 4 && ended == 0);
  CHECK (respond (waiting, 200, "between") == MHD_YES);
  CHECK (respond (waiting, 200, "twice") == MHD_NO);
  for (int i = 0; i < 2000 && ended == 0; i++)
    CHECK (MHD_run_wait (daemon, 10) == MHD_YES);
  CHECK (ended == 1);
  CHECK (pthread_join (thread, &text) == 0);
  EXPECT (text, 200, "between");
  MHD_stop_daemon (daemon);
}

/* A client disconnects meanwhile: the access handler is not called for its request any more. */
static void
disconnected (void)
{
  struct MHD_Daemon *daemon = MHD_start_daemon (MHD_USE_ERROR_LOG, 0, NULL, NULL, note, NULL,
                                                MHD_OPTION_NOTIFY_COMPLETED, count_ended, NULL, MHD_OPTION_END);
  int fd = dial (port_of (daemon));

  ended = calls = 0;
  put (fd, "GET / HTTP/1.1\r\n" END);
  for (int i = 0; i < 2000 && calls < 2; i++)
    CHECK (MHD_run_wait (daemon, 10) == MHD_YES);
  close (fd);
  for (int i = 0; i < 2000 && ended == 0; i++)
    CHECK (MHD_run_wait (daemon, 10) == MHD_YES);
  CHECK (ended == 1);
  for (int i = 0; i < 30; i++) /* longer than the longest pause */
    CHECK (MHD_run_wait (daemon, 10) == MHD_YES);
  MHD_stop_daemon (daemon);
}

int
main (void)
{
  static const unsigned modes[] = { 0, MHD_USE_THREAD_PER_CONNECTION, MHD_ALLOW_SUSPEND_RESUME };

  for (size_t i = 0; i < sizeof (modes) / sizeof (*modes); i++) {
    struct MHD_Daemon *daemon = MHD_start_daemon (THREAD | modes[i], 0, NULL, NULL, fifth, NULL,
                                                  MHD_OPTION_NOTIFY_COMPLETED, count_ended, &ended, MHD_OPTION_END);
    uint16_t port = port_of (daemon);

    EXPECT (ask (port, GET ("/")), 200, "fifth");
    EXPECT (ask (port, "POST / HTTP/1.1\r\nContent-Length: 3\r\n" END "a=1"), 200, "fifth");
    MHD_stop_daemon (daemon);
  }
  between_calls ();
  disconnected ();
  return 0;
}
