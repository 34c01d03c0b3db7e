/* Upgrades by events: input, output, ends, reasons, wake-ups, in every mode. The numbers are those of the list of
   pitfalls of the callback. */
#include "upgrade.h"

/* The state of one protocol. A test uses one connection at a time for it. */
static struct state {
  sem_t called;
  int calls;
  unsigned reasons, all_reasons;
  size_t in, room;
  struct MHD_Connection *connection;
  int number;
} state;

#define NOTHING (*in_size = *out_size = 0)
#define EVENTS(name) \
  static enum MHD_UpgradeEventMask name (void *cls, struct MHD_Connection *connection, void **con_cls, \
                                         size_t *in_size, const char *in, size_t *out_size, char *out)
#define MASK(mask) ((enum MHD_UpgradeEventMask) (mask))
#define READ MHD_UPGRADE_EVENT_READ
#define WRITE MHD_UPGRADE_EVENT_WRITE
#define EXTERNAL MHD_UPGRADE_EVENT_EXTERNAL
#define CORK MHD_UPGRADE_EVENT_CORK
#define TERMINATE MHD_UPGRADE_EVENT_TERMINATE

/* Notes a call. */
static unsigned
note (struct MHD_Connection *connection, const size_t *in_size, const size_t *out_size)
{
  unsigned reasons = MHD_upgrade_events (connection);

  state.connection = connection;
  state.in = *in_size;
  state.room = *out_size;
  state.reasons = reasons;
  state.all_reasons |= reasons;
  __atomic_add_fetch (&state.calls, 1, __ATOMIC_SEQ_CST);
  CHECK (sem_post (&state.called) == 0);
  return reasons;
}

static size_t
say (char *out, const char *text)
{
  return (size_t) (stpcpy (out, text) - out);
}

EVENTS (echo)
{
  size_t n = *in_size < *out_size ? *in_size : *out_size, left = *in_size - n;

  (void) cls, (void) con_cls;
  CHECK (*in_size < 2 * 65536 && *out_size <= 65536);
  memcpy (out, in, n);
  *in_size = *out_size = n;
  if (left > 0)
    return WRITE;
  return MHD_upgrade_events (connection) & MHD_UPGRADE_REASON_PEER_FINISHED ? TERMINATE : READ;
}

/* 2: writes before anything was read; info about the request stays. 24. */
EVENTS (first)
{
  (void) in, (void) cls;
  CHECK (*in_size == 0 && strcmp (*con_cls, "/first") == 0);
  CHECK (strcmp (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "Upgrade"), "test") == 0);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_HTTP_STATUS)->http_status == 101);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr != NULL);
  *in_size = 0;
  *out_size = say (out, "SSH-2.0-test\r\n");
  return TERMINATE;
}

/* Notes each call; consumes and writes nothing; waits for the events in `cls`. */
EVENTS (watch)
{
  (void) in, (void) out, (void) con_cls;
  note (connection, in_size, out_size);
  NOTHING;
  return MASK ((intptr_t) cls);
}

/* Like `watch`, but consumes everything. */
EVENTS (eat)
{
  size_t all = *in_size;

  (void) watch (cls, connection, con_cls, in_size, in, out_size, out);
  *in_size = all;
  return MASK ((intptr_t) cls);
}

/* 17: writes 4 MB, then ends. */
#define MUCH (4u << 20)
EVENTS (much)
{
  size_t left = MUCH - (size_t) state.number;

  (void) cls, (void) connection, (void) con_cls, (void) in;
  *in_size = 0;
  if (*out_size > left)
    *out_size = left;
  memset (out, 'x', *out_size);
  state.number += (int) *out_size;
  return state.number == (int) MUCH ? TERMINATE : WRITE;
}

/* 10: waits for room for ever, and writes nothing more. */
EVENTS (greedy)
{
  (void) cls, (void) con_cls, (void) in;
  note (connection, in_size, out_size);
  *in_size = 0;
  *out_size = state.calls == 1 ? say (out, "once") : 0;
  return WRITE;
}

/* 11 */
EVENTS (small)
{
  (void) cls, (void) con_cls, (void) in;
  note (connection, in_size, out_size);
  *in_size = 0;
  *out_size = state.calls == 1 ? say (out, "small") : 0;
  return MASK (cls == NULL ? WRITE | EXTERNAL : WRITE | EXTERNAL | CORK);
}

/* 5: half-closes at the start, and reads on. */
EVENTS (finisher)
{
  (void) cls, (void) con_cls;
  note (connection, in_size, out_size);
  if (state.calls == 1) {
    NOTHING;
    *out_size = say (out, "last words");
    CHECK (MHD_upgrade_finish (connection) == MHD_YES);
    return READ;
  }
  CHECK (*out_size == 0);
  if (*in_size == 4 && memcmp (in, "more", 4) == 0)
    state.number = 1;
  return state.reasons & MHD_UPGRADE_REASON_PEER_FINISHED ? TERMINATE : READ;
}

/* 18 */
EVENTS (aborter)
{
  (void) cls, (void) con_cls, (void) in;
  NOTHING;
  if (MHD_upgrade_events (connection) & MHD_UPGRADE_REASON_READABLE) {
    *out_size = say (out, "dropped");
    CHECK (MHD_upgrade_abort (connection) == MHD_YES);
  }
  return READ;
}

/* 19, and sizes that are wrong: `cls` says which. */
EVENTS (wrong)
{
  (void) connection, (void) con_cls, (void) in, (void) out;
  switch ((intptr_t) cls) {
  case 0:
    NOTHING;
    return MASK (16);
  case 1:
    *in_size += 1;
    *out_size = 0;
    return READ;
  case 2:
    *in_size = 0;
    *out_size += 1;
    return READ;
  default:
    NOTHING;
    return CORK; /* Alone it terminates. */
  }
}

/* 23: a deadline fires once, whatever the mask; then one that is cancelled. */
EVENTS (timed)
{
  (void) cls, (void) con_cls, (void) in, (void) out;
  note (connection, in_size, out_size);
  NOTHING;
  if (state.calls == 1)
    CHECK (MHD_upgrade_set_deadline (connection, 30) == MHD_YES);
  else
    CHECK (MHD_upgrade_set_deadline (connection, 60) == MHD_YES && MHD_upgrade_set_deadline (connection, -1) == MHD_YES);
  return EXTERNAL;
}

/* 12: counts wakes; wakes itself three times. */
EVENTS (sleeper)
{
  (void) cls, (void) con_cls, (void) in;
  note (connection, in_size, out_size);
  NOTHING;
  if (state.calls <= 3)
    CHECK (MHD_upgrade_wake (connection) == MHD_YES);
  if (state.calls == 4)
    *out_size = say (out, "awake");
  return EXTERNAL;
}

/* 20 */
EVENTS (polite)
{
  (void) con_cls, (void) in;
  note (connection, in_size, out_size);
  NOTHING;
  if (state.reasons & MHD_UPGRADE_REASON_STOPPING) {
    *out_size = say (out, "bye");
    return cls == NULL ? TERMINATE : EXTERNAL;
  }
  return EXTERNAL;
}

/* 27: blocks until it may go on. */
static sem_t may_go_on;
EVENTS (blocker)
{
  (void) cls, (void) con_cls, (void) in;
  note (connection, in_size, out_size);
  AWAIT (&may_go_on);
  *in_size = 0;
  *out_size = say (out, "unblocked");
  return TERMINATE;
}

static const struct {
  const char *target;
  MHD_UpgradeEventHandler handler;
  intptr_t cls;
} protocols[] = {
  { "/echo", echo, 0 },
  { "/first", first, 0 },
  { "/watch-read", watch, READ },
  { "/eat-read", eat, READ },
  { "/eat-write", eat, WRITE },
  { "/watch-external", watch, EXTERNAL },
  { "/eat-all", eat, READ | EXTERNAL },
  { "/much", much, 0 },
  { "/greedy", greedy, 0 },
  { "/held", small, 0 },
  { "/corked", small, 1 },
  { "/finish", finisher, 0 },
  { "/abort", aborter, 0 },
  { "/wrong-mask", wrong, 0 },
  { "/wrong-in", wrong, 1 },
  { "/wrong-out", wrong, 2 },
  { "/cork", wrong, 3 },
  { "/timed", timed, 0 },
  { "/sleep", sleeper, 0 },
  { "/polite", polite, 0 },
  { "/stubborn", polite, 1 },
  { "/block", blocker, 0 },
};

static enum MHD_Result
queue_upgrade (struct MHD_Connection *connection, unsigned status, MHD_UpgradeEventHandler handler, intptr_t cls)
{
  struct MHD_Response *response = MHD_create_response_for_upgrade_events (handler, (void *) cls);
  enum MHD_Result result;

  CHECK (response != NULL && strcmp (MHD_get_response_header (response, "Connection"), "Upgrade") == 0);
  CHECK (MHD_queue_response (connection, 101, response) == MHD_NO); /* Without Upgrade, or after CONNECT. */
  CHECK (MHD_add_response_header (response, "X-Own", "kept") == MHD_YES);
  CHECK (MHD_add_response_header (response, MHD_HTTP_HEADER_UPGRADE, "test") == MHD_YES);
  CHECK (MHD_queue_response (connection, status == 101 ? 200 : 101, response) == MHD_NO);
  result = MHD_queue_response (connection, status, response);
  MHD_destroy_response (response);
  return result;
}

static void *
upgrade_later (void *cls)
{
  usleep (1000);
  CHECK (queue_upgrade (cls, 101, echo, 0) == MHD_YES);
  MHD_resume_connection (cls);
  return NULL;
}

HANDLER (access_handler)
{
  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = strdup (url);
    if (strcmp (url, "/later") == 0) {
      pthread_t thread;

      MHD_suspend_connection (connection);
      CHECK (pthread_create (&thread, NULL, upgrade_later, connection) == 0 && pthread_detach (thread) == 0);
      return MHD_YES;
    }
    CHECK (respond (connection, 101, "no upgrade") == MHD_NO);
    CHECK (MHD_upgrade_events (connection) == 0 && MHD_upgrade_finish (connection) == MHD_NO);
    CHECK (MHD_upgrade_abort (connection) == MHD_NO && MHD_upgrade_set_deadline (connection, 1) == MHD_NO);
    if (strcmp (url, "/sleep-early") != 0)
      return MHD_YES;
  }
  if (*upload_data_size > 0) {
    *upload_data_size = 0;
    return MHD_YES;
  }
  /* Is remembered until the handler waits for it. */
  if (strcmp (url, "/sleep-early") == 0) {
    CHECK (MHD_upgrade_wake (connection) == MHD_YES);
    return queue_upgrade (connection, 101, watch, EXTERNAL);
  }
  if (strcmp (method, "CONNECT") == 0)
    return queue_upgrade (connection, 200, echo, 0);
  for (size_t i = 0; i < sizeof (protocols) / sizeof (*protocols); i++)
    if (strcmp (url, protocols[i].target) == 0)
      return queue_upgrade (connection, 101, protocols[i].handler, protocols[i].cls);
  return respond (connection, 404, "not found\n");
}

static void
anew (void)
{
  sem_destroy (&state.called);
  memset (&state, 0, sizeof (state));
  CHECK (sem_init (&state.called, 0, 0) == 0);
}

/* Waits for the completion of one connection, and its code. */
static void
ends_at (int line, int code)
{
  await_at (line, &completed);
  if (completion_code != code) {
    fprintf (stderr, "line %d, %s: expected the code %d, got %d\n", line, server.mode->name, code, completion_code);
    exit (1);
  }
  await_at (line, &closed);
}
#define ENDS(code) ends_at (__LINE__, code)

struct echo_client {
  int fd;
  const char *bytes;
  size_t len;
};

static void *
read_echo (void *cls)
{
  struct echo_client *client = cls;
  char *got = malloc (client->len);

  get_all (client->fd, got, client->len);
  CHECK (memcmp (got, client->bytes, client->len) == 0);
  free (got);
  return NULL;
}

/* Sends all, while another thread checks the echo. */
static void
echoes (int fd, const char *bytes, size_t len)
{
  struct echo_client client = { fd, bytes, len };
  pthread_t thread;

  CHECK (pthread_create (&thread, NULL, read_echo, &client) == 0);
  put_all (fd, bytes, len);
  CHECK (pthread_join (thread, NULL) == 0);
}

/* 1, 8, 25: bytes behind the request, in one segment with it, are the protocol's and never another request. */
static void
early_data (void)
{
  static const size_t sizes[] = { 1, 65535, 65536, 65537, 200000 };

  for (size_t i = 0; i < sizeof (sizes) / sizeof (*sizes); i++) {
    static const char head[] = UPGRADE ("/echo"), again[] = UPGRADE ("/never");
    size_t len = sizes[i] + sizeof (again);
    char *bytes = malloc (sizeof (head) + len), *data = bytes + sizeof (head) - 1, *own = pattern (sizes[i]);
    struct echo_client client = { connect_to (false), data, len };
    pthread_t thread;

    memcpy (bytes, head, sizeof (head));
    memcpy (data, again, sizeof (again));
    memcpy (data + sizeof (again), own, sizes[i]);
    /* The head and 60000 bytes at most at once; the echo is read meanwhile. */
    put_all (client.fd, bytes, sizeof (head) - 1 + (len < 60000 ? len : 60000));
    GET_HEAD (client.fd, 101);
    CHECK (pthread_create (&thread, NULL, read_echo, &client) == 0);
    if (len > 60000)
      put_all (client.fd, data + 60000, len - 60000);
    CHECK (pthread_join (thread, NULL) == 0);
    CHECK (shutdown (client.fd, SHUT_WR) == 0 && end_of (client.fd) == 0);
    close (client.fd);
    ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
    free (bytes);
    free (own);
  }
  /* In the first call. */
  anew ();
  int fd = connect_to (false);
  put (fd, UPGRADE ("/watch-external") "early");
  GET_HEAD (fd, 101);
  AWAIT (&state.called);
  CHECK (state.in == 5 && state.reasons == MHD_UPGRADE_REASON_READABLE && state.room <= 65536);
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
}

/* 2 */
static void
server_speaks_first (void)
{
  char head[1000], *field;
  int fd = connect_to (false);

  put (fd, UPGRADE ("/first"));
  get_head_at (__LINE__, fd, 101, head, sizeof (head));
  field = strstr (head, "\r\nUpgrade: test\r\n");
  CHECK (field != NULL && field == strstr (head, "\r\nUpgrade:") && strstr (field + 5, "\r\nUpgrade:") == NULL);
  CHECK (strstr (head, "\r\nConnection: upgrade\r\n") != NULL);
  CHECK (strstr (head, "\r\nX-Own: kept\r\n") != NULL && strstr (head, "Content-Length") == NULL);
  EXPECT_BYTES (fd, "SSH-2.0-test\r\n");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 7, 10: what is not consumed comes again with what follows; a full input that is not consumed aborts. */
static void
unconsumed_input (void)
{
  char *much = pattern (70000);
  int fd;

  anew ();
  fd = UPGRADED ("/watch-read");
  put (fd, "abc");
  do
    AWAIT (&state.called);
  while (state.in < 3);
  usleep (50000);
  CHECK (state.calls <= 3); /* Not for the same bytes again. */
  put (fd, "def");
  while (state.in < 6)
    AWAIT (&state.called);
  CHECK (state.reasons == MHD_UPGRADE_REASON_READABLE);
  CHECK (send (fd, much, 70000, MSG_NOSIGNAL) > 0);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  /* Over TLS a whole record is taken in. */
  CHECK (end_of (fd) == ECONNRESET && state.in >= 65536 && state.in < 2 * 65536 && state.calls < 100);
  close (fd);
  free (much);
}

/* 9, 10: neither a client that does not read nor a wish for room makes the loop busy. */
static void
output_is_bounded (void)
{
  int fd = UPGRADED ("/echo");
  char *bytes = pattern (100000);
  size_t sent = 0;
  ssize_t n;
  int turns;

  CHECK (fcntl (fd, F_SETFL, O_NONBLOCK) == 0);
  for (struct pollfd room = { .fd = fd, .events = POLLOUT }; poll (&room, 1, 300) == 1 && sent < (64u << 20);) {
    n = send (fd, bytes, 100000, MSG_NOSIGNAL);
    CHECK (n > 0 || errno == EAGAIN);
    sent += n > 0 ? (size_t) n : 0;
  }
  CHECK (sent < (64u << 20)); /* The daemon has stopped reading. */
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);

  anew ();
  fd = UPGRADED ("/greedy");
  EXPECT_BYTES (fd, "once");
  put (fd, "not asked for");
  usleep (50000);
  turns = server.turns;
  usleep (50000);
  CHECK (server.turns - turns < 20); /* The loop does not spin. */
  CHECK (__atomic_load_n (&state.calls, __ATOMIC_SEQ_CST) <= 4);
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  free (bytes);
}

/* 11: without CORK a small piece may wait for more, but not for ever. */
static void
corks (void)
{
  for (int corked = 0; corked < 2; corked++) {
    double begin = seconds ();
    int fd;

    anew ();
    fd = corked ? UPGRADED ("/corked") : UPGRADED ("/held");
    EXPECT_BYTES (fd, "small");
    CHECK (seconds () - begin < 5 && (corked || seconds () - begin > 0.1));
    reset (fd);
    ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  }
}

/* 17, 16: everything is sent, although the client reads late and continues to send. */
static void
terminate_sends_all (void)
{
  char *got = malloc (MUCH);
  int fd;

  anew ();
  fd = UPGRADED ("/much");
  for (size_t at = 0; at < MUCH; at += MUCH / 16) {
    put (fd, "still sending");
    usleep (2000);
    get_all (fd, got + at, MUCH / 16);
  }
  for (size_t i = 0; i < MUCH; i++)
    CHECK (got[i] == 'x');
  CHECK (end_of (fd) == 0);
  close (fd);
  free (got);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 3, 4: the end comes once, after all data. */
static void
end_of_input (void)
{
  int fd;

  anew ();
  fd = UPGRADED ("/eat-all");
  put (fd, "all of it");
  CHECK (shutdown (fd, SHUT_WR) == 0);
  while (!(state.reasons & MHD_UPGRADE_REASON_PEER_FINISHED))
    AWAIT (&state.called);
  CHECK (!(state.reasons & (MHD_UPGRADE_REASON_TRUNCATED | MHD_UPGRADE_REASON_ERROR)));
  usleep (30000);
  CHECK (state.calls <= 3 && is_silent (fd, 0));
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  if (proxy) {
    anew ();
    fd = connect_to (true);
    put (fd, UPGRADE ("/eat-read") "part of it");
    CHECK (shutdown (fd, SHUT_WR) == 0);
    ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
    CHECK (state.reasons & MHD_UPGRADE_REASON_TRUNCATED && state.reasons & MHD_UPGRADE_REASON_PEER_FINISHED);
    CHECK (!(state.all_reasons & MHD_UPGRADE_REASON_ERROR));
    close (fd);
  }
  /* READ alone would never be called again: that is the end. */
  fd = UPGRADED ("/eat-read");
  CHECK (shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
  /* A half-closed client gets the echo. */
  fd = connect_to (false);
  put (fd, UPGRADE ("/echo") "last");
  CHECK (shutdown (fd, SHUT_WR) == 0);
  GET_HEAD (fd, 101);
  EXPECT_BYTES (fd, "last");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 5: the other direction. */
static void
half_close (void)
{
  int fd;

  anew ();
  fd = UPGRADED ("/finish");
  EXPECT_BYTES (fd, "last words");
  CHECK (end_of (fd) == 0);
  put (fd, "more");
  CHECK (shutdown (fd, SHUT_WR) == 0);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
  CHECK (state.number == 1 || state.in > 0);
  close (fd);
}

/* 6: a reset is told once, whatever the mask, and the loop does not spin. */
static void
resets (void)
{
  for (int i = 0; i < 2; i++) {
    int fd;

    anew ();
    fd = i ? UPGRADED ("/watch-external") : UPGRADED ("/eat-write");
    AWAIT (&state.called);
    reset (fd);
    ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
    CHECK (state.reasons & MHD_UPGRADE_REASON_ERROR && state.reasons & MHD_UPGRADE_REASON_TRUNCATED);
    CHECK (state.calls <= 3);
  }
}

/* 18, 19 */
static void
aborts_and_faults (void)
{
  static const char *const requests[] = { UPGRADE ("/wrong-mask"), UPGRADE ("/wrong-in"), UPGRADE ("/wrong-out") };
  static const char *const lines[] = { "returned the events 16", "consumed 1 of 0", "written 65537 bytes, with room" };
  int fd = UPGRADED ("/abort");

  put (fd, "x");
  CHECK (end_of (fd) == ECONNRESET);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  for (int i = 0; i < 3; i++) {
    fd = connect_to (false);
    put (fd, requests[i]);
    ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
    CHECK (strstr (last_line, lines[i]) != NULL);
    close (fd);
  }
  fd = UPGRADED ("/cork");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 23 */
static void
deadlines (void)
{
  double begin = seconds ();
  int fd;

  anew ();
  fd = UPGRADED ("/timed");
  AWAIT (&state.called);
  AWAIT (&state.called);
  CHECK (state.reasons == MHD_UPGRADE_REASON_DEADLINE && seconds () - begin >= 0.03);
  usleep (120000);
  CHECK (state.calls == 2); /* The other one was cancelled. */
  CHECK (MHD_get_daemon_info (server.daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections == 1);
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
}

#define WAKES 2000
static void *
wake_often (void *cls)
{
  for (int i = 0; i < WAKES; i++)
    CHECK (MHD_upgrade_wake (cls) == MHD_YES);
  return NULL;
}

/* 12, 13: no wake is lost: from inside the handler, before it waits, from eight threads. */
static void
wakes (void)
{
  pthread_t threads[8];
  int fd, calls;

  anew ();
  fd = UPGRADED ("/sleep");
  EXPECT_BYTES (fd, "awake");
  CHECK (state.reasons == MHD_UPGRADE_REASON_WOKEN && state.calls == 4);
  for (int i = 0; i < 8; i++)
    CHECK (pthread_create (&threads[i], NULL, wake_often, state.connection) == 0);
  for (int i = 0; i < 8; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  usleep (30000);
  calls = __atomic_load_n (&state.calls, __ATOMIC_SEQ_CST);
  CHECK (calls > 4 && calls <= 4 + 8 * WAKES);
  while (sem_trywait (&state.called) == 0)
    ;
  CHECK (MHD_upgrade_wake (state.connection) == MHD_YES);
  AWAIT (&state.called);
  CHECK (state.calls == calls + 1);
  if (server.mode->loop == NONE)
    CHECK (MHD_upgrade_wake_all (server.daemon) == MHD_NO);
  else {
    /* Not while the other thread runs the daemon. */
    while (MHD_upgrade_wake_all (server.daemon) == MHD_NO)
      usleep (100);
    ring ();
    AWAIT (&state.called);
    CHECK (state.calls == calls + 2 && state.reasons == MHD_UPGRADE_REASON_WOKEN);
  }
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);

  anew ();
  fd = UPGRADED ("/sleep-early");
  do
    AWAIT (&state.called);
  while (!(state.reasons & MHD_UPGRADE_REASON_WOKEN));
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
}

/* 22: a client that floods does not starve another. */
static void *
flood (void *cls)
{
  struct echo_client *client = cls;

  echoes (client->fd, client->bytes, client->len);
  return NULL;
}

static void
fairness (void)
{
  char *bytes = pattern (16u << 20);
  struct echo_client flooder = { UPGRADED ("/echo"), bytes, 16u << 20 };
  int fd = UPGRADED ("/echo");
  pthread_t thread;

  CHECK (pthread_create (&thread, NULL, flood, &flooder) == 0);
  for (int i = 0; i < 20; i++) {
    double begin = seconds ();

    put (fd, "ping");
    EXPECT_BYTES (fd, "ping");
    CHECK (seconds () - begin < 5);
  }
  CHECK (pthread_join (thread, NULL) == 0);
  reset (fd);
  reset (flooder.fd);
  for (int i = 0; i < 2; i++)
    ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  free (bytes);
}

/* 25: after a body; not for HTTP/1.0; for a client that names no protocol; for one that has not asked. */
static void
requests (void)
{
  static const char body[] = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n"
                             "Content-Length: 4\r\n\r\nbodyecho";
  int fd = connect_to (false);

  put (fd, body);
  GET_HEAD (fd, 101);
  EXPECT_BYTES (fd, "echo");
  CHECK (shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);

  fd = connect_to (false);
  put (fd, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\r\nhello");
  GET_HEAD (fd, 101);
  EXPECT_BYTES (fd, "hello");
  CHECK (shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);

  fd = connect_to (false);
  put (fd, GET ("/echo"));
  EXPECT (rest (fd, NULL), 426, NULL);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
  CHECK (strstr (last_line, "not asked for an upgrade") != NULL);

  fd = connect_to (false);
  put (fd, "GET /echo HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n");
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  CHECK (strstr (last_line, "closing the connection") != NULL);
  close (fd);

  fd = UPGRADED ("/later");
  put (fd, "late");
  EXPECT_BYTES (fd, "late");
  CHECK (shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);

  fd = connect_to (false);
  put (fd, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\ntunnel");
  GET_HEAD (fd, 200);
  EXPECT_BYTES (fd, "tunnel");
  CHECK (shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 27: with a thread for each connection, a handler that blocks delays its own connection only. */
static void
blocking (void)
{
  int fd, other;

  if (!(server.mode->flags & MHD_USE_THREAD_PER_CONNECTION))
    return;
  anew ();
  fd = connect_to (false);
  put (fd, UPGRADE ("/block"));
  AWAIT (&state.called);
  other = UPGRADED ("/echo");
  put (other, "not delayed");
  EXPECT_BYTES (other, "not delayed");
  CHECK (shutdown (other, SHUT_WR) == 0 && end_of (other) == 0);
  close (other);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
  CHECK (sem_post (&may_go_on) == 0);
  GET_HEAD (fd, 101);
  EXPECT_BYTES (fd, "unblocked");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS (MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* 20: told once, whatever the mask; what it writes then is sent. */
static void
stopping (const struct mode *mode)
{
  double begin;
  int fd;

  serve (mode, access_handler, 0);
  anew ();
  fd = UPGRADED ("/polite");
  AWAIT (&state.called);
  stop ();
  EXPECT_BYTES (fd, "bye");
  CHECK (end_of (fd) == 0 && completions == 1 && closings == 1);
  CHECK (completion_code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  close (fd);

  serve (mode, access_handler, 0);
  anew ();
  fd = UPGRADED ("/stubborn");
  AWAIT (&state.called);
  begin = seconds ();
  stop ();
  CHECK (seconds () - begin < 10 && completions == 1 && closings == 1);
  CHECK (completion_code == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN);
  close (fd);
}

/* 23: it outlives the timeouts of HTTP. */
static void
idle (const struct mode *mode)
{
  int fd;

  serve (mode, access_handler, 1);
  fd = UPGRADED ("/echo");
  usleep (1500000);
  put (fd, "still there");
  EXPECT_BYTES (fd, "still there");
  reset (fd);
  ENDS (MHD_REQUEST_TERMINATED_WITH_ERROR);
  stop ();
}

int
main (int argc, char **argv)
{
  arguments (argc, argv);
  CHECK (sem_init (&may_go_on, 0, 0) == 0);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_UPGRADE) == MHD_YES);
  CHECK (MHD_create_response_for_upgrade_events (NULL, NULL) == NULL && MHD_upgrade_wake (NULL) == MHD_NO);
  CHECK (MHD_upgrade_wake_all (NULL) == MHD_NO);
  CHECK (MHD_upgrade_events (NULL) == 0 && MHD_upgrade_finish (NULL) == MHD_NO && MHD_upgrade_abort (NULL) == MHD_NO);
  for EACH_MODE (mode) {
    int before;

    serve (mode, access_handler, 0);
    early_data ();
    server_speaks_first ();
    unconsumed_input ();
    output_is_bounded ();
    corks ();
    terminate_sends_all ();
    end_of_input ();
    half_close ();
    resets ();
    aborts_and_faults ();
    deadlines ();
    wakes ();
    fairness ();
    requests ();
    blocking ();
    before = completions;
    stop ();
    CHECK (completions == before && closings == completions);
    stopping (mode);
    idle (mode);
  }
  return 0;
}
