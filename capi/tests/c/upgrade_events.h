/* What the tests of upgrades by events share: the state of a protocol, some protocols, the access handler. */
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
  static inline enum MHD_UpgradeEventMask name (void *cls, struct MHD_Connection *connection, void **con_cls, \
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

struct protocol {
  const char *target;
  MHD_UpgradeEventHandler handler;
  intptr_t cls;
};

/* The protocols of the test. */
static const struct protocol *protocols;
static size_t protocol_count;

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
  for (size_t i = 0; i < protocol_count; i++)
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

/* Takes the arguments and the protocols of a test. */
static void
begin (int argc, char **argv, const struct protocol *table, size_t count)
{
  arguments (argc, argv);
  protocols = table;
  protocol_count = count;
}
#define BEGIN(table) begin (argc, argv, table, sizeof (table) / sizeof (*table))
