/* Upgrades by events: ends, reasons, wake-ups, stops, in every mode. The numbers are those of the list of pitfalls of the
   callback. */
#include "upgrade_events.h"

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

static const struct protocol table[] = {
  { "/echo", echo, 0 },
  { "/eat-read", eat, READ },
  { "/eat-write", eat, WRITE },
  { "/watch-external", watch, EXTERNAL },
  { "/eat-all", eat, READ | EXTERNAL },
  { "/finish", finisher, 0 },
  { "/timed", timed, 0 },
  { "/sleep", sleeper, 0 },
  { "/polite", polite, 0 },
  { "/stubborn", polite, 1 },
  { "/block", blocker, 0 },
};

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
    __atomic_store_n (&server.wakes_all, 1, __ATOMIC_SEQ_CST);
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
  BEGIN (table);
  CHECK (sem_init (&may_go_on, 0, 0) == 0);
  CHECK (MHD_upgrade_events (NULL) == 0 && MHD_upgrade_finish (NULL) == MHD_NO && MHD_upgrade_abort (NULL) == MHD_NO);
  CHECK (MHD_upgrade_set_deadline (NULL, 1) == MHD_NO && MHD_upgrade_wake (NULL) == MHD_NO);
  CHECK (MHD_upgrade_wake_all (NULL) == MHD_NO);
  for EACH_MODE (mode) {
    int before;

    serve (mode, access_handler, 0);
    end_of_input ();
    half_close ();
    resets ();
    deadlines ();
    wakes ();
    blocking ();
    before = completions;
    stop ();
    CHECK (completions == before && closings == completions);
    stopping (mode);
    idle (mode);
  }
  return 0;
}
