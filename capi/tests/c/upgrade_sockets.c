/* Upgrades by a socket: both directions, both ends, closing from any thread, in every mode. */
#include "upgrade.h"
#include <dirent.h>

/* What the program does with its socket, in a thread unless the handler itself does it. */
struct job {
  void (*run) (struct job *);
  bool inline_only;
  MHD_socket sock;
  struct MHD_UpgradeResponseHandle *urh;
  struct MHD_Connection *connection;
};

static sem_t started, job_done, may_go_on;
static size_t seen;
static MHD_socket last_sock;
static struct MHD_UpgradeResponseHandle *last_urh;

/* Waits until the socket can be read or written. */
static void
ready (MHD_socket sock, short events)
{
  struct pollfd one = { .fd = sock, .events = events };

  CHECK (poll (&one, 1, PATIENCE * 1000) == 1);
}

/* Reads what there is; 0 at the end. */
static size_t
read_some (MHD_socket sock, void *bytes, size_t room)
{
  ssize_t n;

  ready (sock, POLLIN);
  n = recv (sock, bytes, room, 0);
  CHECK (n >= 0 || errno == ECONNRESET);
  return n < 0 ? 0 : (size_t) n;
}

/* Returns false if the client is gone. */
static bool
write_all (MHD_socket sock, const char *bytes, size_t len)
{
  while (len > 0) {
    ssize_t n;

    ready (sock, POLLOUT);
    n = send (sock, bytes, len, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
      continue;
    if (n < 0)
      return false;
    bytes += n;
    len -= (size_t) n;
  }
  return true;
}

static void
close_it (struct job *job)
{
  CHECK (MHD_upgrade_action (job->urh, MHD_UPGRADE_ACTION_CLOSE) == MHD_YES);
}

static void
echo (struct job *job)
{
  char bytes[20000];
  size_t n;

  while ((n = read_some (job->sock, bytes, sizeof (bytes))) > 0)
    if (!write_all (job->sock, bytes, n))
      break;
  close_it (job);
  /* The number of a handle is not used again. */
  CHECK (MHD_upgrade_action (job->urh, MHD_UPGRADE_ACTION_CLOSE) == MHD_NO);
  CHECK (MHD_upgrade_action (job->urh, MHD_UPGRADE_ACTION_CORK_ON) == MHD_NO);
}

/* The conversation of the original's test: the server begins. */
static void
converse (struct job *job)
{
  char world[6] = "";
  size_t n = 0;

  CHECK (MHD_upgrade_action (job->urh, MHD_UPGRADE_ACTION_CORK_ON) == MHD_YES);
  CHECK (write_all (job->sock, "He", 2) && write_all (job->sock, "llo", 3));
  CHECK (MHD_upgrade_action (job->urh, MHD_UPGRADE_ACTION_CORK_OFF) == MHD_YES);
  CHECK (MHD_upgrade_action (job->urh, (enum MHD_UpgradeAction) 7) == MHD_NO);
  while (n < 5) {
    size_t more = read_some (job->sock, world + n, 5 - n);

    CHECK (more > 0);
    n += more;
  }
  CHECK (strcmp (world, "World") == 0 && write_all (job->sock, "Finished", 8));
  close_it (job);
}

/* Half-closes, then reads to the end. */
static void
half_close (struct job *job)
{
  char bytes[1000];
  size_t n;

  CHECK (write_all (job->sock, "last words", 10) && shutdown (job->sock, SHUT_WR) == 0);
  seen = 0;
  while ((n = read_some (job->sock, bytes, sizeof (bytes))) > 0)
    seen += n;
  close_it (job);
}

/* Reads to the end, then writes, then closes. */
static void
speak_last (struct job *job)
{
  char bytes[1000];
  size_t n;

  seen = 0;
  while ((n = read_some (job->sock, bytes, sizeof (bytes))) > 0)
    seen += n;
  CHECK (write_all (job->sock, "the end", 7));
  close_it (job);
}

#define MUCH (4u << 20)
/* Writes much, reads nothing, and closes at once. */
static void
write_much (struct job *job)
{
  char *bytes = pattern (MUCH);

  CHECK (write_all (job->sock, bytes, MUCH));
  free (bytes);
  close_it (job);
}

static void
close_now (struct job *job)
{
  close_it (job);
}

/* Reads nothing until it may; then everything. */
static void
read_late (struct job *job)
{
  char *bytes = malloc (MUCH), *expected = pattern (MUCH);
  size_t n;

  AWAIT (&may_go_on);
  seen = 0;
  while (seen < MUCH && (n = read_some (job->sock, bytes + seen, MUCH - seen)) > 0)
    seen += n;
  CHECK (seen == MUCH && memcmp (bytes, expected, MUCH) == 0 && write_all (job->sock, "all read", 8));
  free (bytes);
  free (expected);
  close_it (job);
}

/* Learns of a client that is gone, and closes when it may. */
static void
outlive (struct job *job)
{
  char bytes[100];

  CHECK (sem_post (&started) == 0);
  while (read_some (job->sock, bytes, sizeof (bytes)) > 0)
    ;
  /* Writing fails at the latest when the other end has waited for the rest. */
  for (int i = 0; i < 100 && write_all (job->sock, "x", 1); i++)
    usleep (50000);
  CHECK (!write_all (job->sock, "x", 1));
  CHECK (sem_post (&started) == 0);
  AWAIT (&may_go_on);
  /* The request is not completed yet. */
  CHECK (strcmp (MHD_lookup_connection_value (job->connection, MHD_HEADER_KIND, "Upgrade"), "test") == 0);
  close_it (job);
}

/* Waits for the end of the input, which comes when the daemon stops, and says goodbye. */
static void
until_stop (struct job *job)
{
  char byte;

  CHECK (sem_post (&started) == 0);
  CHECK (read_some (job->sock, &byte, 1) == 0 && write_all (job->sock, "bye", 3));
  close_it (job);
}

/* Leaves the socket to the test. */
static void
keep (struct job *job)
{
  last_sock = job->sock;
  last_urh = job->urh;
  CHECK (sem_post (&started) == 0);
}

static struct job jobs[] = {
  { .run = echo }, { .run = converse }, { .run = half_close }, { .run = speak_last }, { .run = write_much },
  { .run = close_now, .inline_only = true }, { .run = read_late }, { .run = outlive }, { .run = until_stop },
  { .run = keep, .inline_only = true },
};
static const char *const targets[] = {
  "/echo", "/converse", "/half-close", "/speak-last", "/write-much", "/close-now", "/read-late", "/outlive",
  "/until-stop", "/keep",
};

static void *
work (void *cls)
{
  struct job *job = cls;

  job->run (job);
  free (job);
  CHECK (sem_post (&job_done) == 0);
  return NULL;
}

static void
upgraded (void *cls, struct MHD_Connection *connection, void *req_cls, const char *extra_in, size_t extra_in_size,
          MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
  struct job *job = malloc (sizeof (*job));
  pthread_t thread;

  CHECK (extra_in == NULL && extra_in_size == 0 && urh != NULL && sock >= 0);
  CHECK (fcntl (sock, F_GETFL) & O_NONBLOCK && fcntl (sock, F_GETFD) & FD_CLOEXEC);
  CHECK (strcmp (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "Upgrade"), "test") == 0);
  CHECK (req_cls != NULL && MHD_get_connection_info (connection, MHD_CONNECTION_INFO_HTTP_STATUS)->http_status == 101);
  *job = *(struct job *) cls;
  job->sock = sock;
  job->urh = urh;
  job->connection = connection;
  /* With a thread for each connection the handler may block, and is the whole protocol. */
  if (job->inline_only || server.mode->flags & MHD_USE_THREAD_PER_CONNECTION)
    work (job);
  else
    CHECK (pthread_create (&thread, NULL, work, job) == 0 && pthread_detach (thread) == 0);
}

HANDLER (access_handler)
{
  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = strdup (url);
    return MHD_YES;
  }
  for (size_t i = 0; i < sizeof (jobs) / sizeof (*jobs); i++)
    if (strcmp (url, targets[i]) == 0) {
      struct MHD_Response *response = MHD_create_response_for_upgrade (upgraded, &jobs[i]);
      enum MHD_Result result;

      CHECK (MHD_add_response_header (response, MHD_HTTP_HEADER_UPGRADE, "test") == MHD_YES);
      result = MHD_queue_response (connection, MHD_HTTP_SWITCHING_PROTOCOLS, response);
      MHD_destroy_response (response);
      return result;
    }
  return respond (connection, 404, "not found\n");
}

/* The job is done, the request completed normally and once, and then the connection closed. */
static void
ends_at (int line)
{
  await_at (line, &job_done);
  await_at (line, &completed);
  CHECK (completion_code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  await_at (line, &closed);
}
#define ENDS() ends_at (__LINE__)

static void *
send_all (void *cls)
{
  int fd = *(int *) cls;
  char *bytes = pattern (MUCH);

  put_all (fd, bytes, MUCH);
  free (bytes);
  return NULL;
}

static void
get_pattern (int fd)
{
  char *got = malloc (MUCH), *expected = pattern (MUCH);

  get_all (fd, got, MUCH);
  CHECK (memcmp (got, expected, MUCH) == 0);
  free (got);
  free (expected);
}

static void
data (void)
{
  pthread_t thread;
  int fd = connect_to (false);

  /* With the request. */
  put (fd, UPGRADE ("/echo") "early");
  GET_HEAD (fd, 101);
  EXPECT_BYTES (fd, "early");
  CHECK (pthread_create (&thread, NULL, send_all, &fd) == 0);
  get_pattern (fd);
  CHECK (pthread_join (thread, NULL) == 0 && shutdown (fd, SHUT_WR) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS ();

  fd = UPGRADED ("/converse");
  EXPECT_BYTES (fd, "Hello");
  put (fd, "World");
  EXPECT_BYTES (fd, "Finished");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS ();
}

/* Each end finishes first, and still receives. */
static void
half_closes (void)
{
  int fd = UPGRADED ("/half-close");

  EXPECT_BYTES (fd, "last words");
  CHECK (end_of (fd) == 0);
  put (fd, "still");
  usleep (20000);
  put (fd, "heard");
  CHECK (shutdown (fd, SHUT_WR) == 0);
  ENDS ();
  CHECK (seen == 10);
  close (fd);

  fd = UPGRADED ("/speak-last");
  put (fd, "question");
  CHECK (shutdown (fd, SHUT_WR) == 0);
  EXPECT_BYTES (fd, "the end");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS ();
  CHECK (seen == 8);
}

/* What was written before the close arrives, although the client reads late, and the program has not read at all. */
static void
closing (void)
{
  char *got = malloc (MUCH), *expected = pattern (MUCH);
  int fd = UPGRADED ("/write-much");

  for (size_t at = 0; at < MUCH; at += MUCH / 16) {
    put (fd, "never read by the program");
    usleep (5000);
    get_all (fd, got + at, MUCH / 16);
  }
  CHECK (memcmp (got, expected, MUCH) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS ();
  free (got);
  free (expected);

  fd = UPGRADED ("/close-now");
  CHECK (end_of (fd) == 0);
  close (fd);
  ENDS ();
}

/* A program that does not read stops its client, for as long as it likes: longer than all timeouts. */
static void
back_pressure (void)
{
  pthread_t thread;
  int fd = UPGRADED ("/read-late");

  CHECK (pthread_create (&thread, NULL, send_all, &fd) == 0);
  usleep (1500000);
  CHECK (completions == closings && is_silent (fd, 0));
  CHECK (sem_post (&may_go_on) == 0);
  EXPECT_BYTES (fd, "all read");
  CHECK (pthread_join (thread, NULL) == 0 && end_of (fd) == 0);
  close (fd);
  ENDS ();
}

/* A client that is gone: the program learns of it by its socket, and keeps the request until it closes. */
static void
departure (void)
{
  int fd = UPGRADED ("/outlive"), before = completions;

  AWAIT (&started);
  reset (fd);
  AWAIT (&started);
  usleep (20000);
  CHECK (__atomic_load_n (&completions, __ATOMIC_SEQ_CST) == before);
  CHECK (sem_post (&may_go_on) == 0);
  ENDS ();
}

static int
descriptors (void)
{
  DIR *dir = opendir ("/proc/self/fd");
  int count = 0;

  while (readdir (dir) != NULL)
    count++;
  closedir (dir);
  return count;
}

/* The daemon stops while the program has the socket: with a job that ends then, and with one that closes much later. */
static void
stopping (const struct mode *mode)
{
  char byte;
  int fd;

  serve (mode, access_handler, 0);
  fd = UPGRADED ("/until-stop");
  AWAIT (&started);
  stop ();
  AWAIT (&job_done);
  EXPECT_BYTES (fd, "bye");
  CHECK (completions == 1 && closings == 1 && end_of (fd) == 0);
  close (fd);

  serve (mode, access_handler, 0);
  fd = UPGRADED ("/keep");
  AWAIT (&started);
  AWAIT (&job_done);
  stop ();
  CHECK (completions == 1 && closings == 1 && completion_code == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN);
  CHECK (read_some (last_sock, &byte, 1) == 0);
  CHECK (MHD_upgrade_action (last_urh, MHD_UPGRADE_ACTION_CLOSE) == MHD_YES);
  CHECK (fcntl (last_sock, F_GETFD) == -1 && errno == EBADF);
  close (fd);
}

int
main (int argc, char **argv)
{
  arguments (argc, argv);
  CHECK (MHD_create_response_for_upgrade (NULL, NULL) == NULL);
  CHECK (MHD_upgrade_action (NULL, MHD_UPGRADE_ACTION_CLOSE) == MHD_NO);
  CHECK (sem_init (&started, 0, 0) == 0 && sem_init (&job_done, 0, 0) == 0 && sem_init (&may_go_on, 0, 0) == 0);
  for EACH_MODE (mode) {
    int before = descriptors (), jobs_done = 7;

    serve (mode, access_handler, 1);
    data ();
    half_closes ();
    closing ();
    back_pressure ();
    departure ();
    stop ();
    CHECK (completions == closings && completions == jobs_done + 1);
    stopping (mode);
    if (descriptors () != before)
      fprintf (stderr, "%s: %d descriptors, now %d\n", mode->name, before, descriptors ());
    CHECK (descriptors () == before);
  }
  return 0;
}
