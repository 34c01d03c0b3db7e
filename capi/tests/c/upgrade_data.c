/* Upgrades by events: input and output, in every mode. The numbers are those of the list of pitfalls of the callback. */
#include "upgrade_events.h"

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

static const struct protocol table[] = {
  { "/echo", echo, 0 },
  { "/first", first, 0 },
  { "/watch-read", watch, READ },
  { "/watch-external", watch, EXTERNAL },
  { "/much", much, 0 },
  { "/greedy", greedy, 0 },
  { "/held", small, 0 },
  { "/corked", small, 1 },
  { "/abort", aborter, 0 },
  { "/wrong-mask", wrong, 0 },
  { "/wrong-in", wrong, 1 },
  { "/wrong-out", wrong, 2 },
  { "/cork", wrong, 3 },
};

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

int
main (int argc, char **argv)
{
  BEGIN (table);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_UPGRADE) == MHD_YES);
  CHECK (MHD_create_response_for_upgrade_events (NULL, NULL) == NULL);
  for EACH_MODE (mode) {
    int before;

    serve (mode, access_handler, 0);
    early_data ();
    server_speaks_first ();
    unconsumed_input ();
    output_is_bounded ();
    corks ();
    terminate_sends_all ();
    aborts_and_faults ();
    fairness ();
    requests ();
    before = completions;
    stop ();
    CHECK (completions == before && closings == completions);
  }
  return 0;
}
