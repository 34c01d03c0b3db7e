/* HTTPS in every mode. `tests/interface/tls.rs` is the client: it starts this program with a mode and PEM files, reads the
 * port, and closes standard input to end it.
 *
 *   tls MODE CERTIFICATE KEY [trust=FILE] [password=TEXT] [priorities=TEXT] [certificate2=FILE key2=FILE]
 */
#include "check.h"
#include <sys/epoll.h>
#include <sys/select.h>

static char *
file (const char *path)
{
  FILE *input = fopen (path, "r");
  char *text = calloc (1, 1 << 16);

  CHECK (input != NULL && fread (text, 1, (1 << 16) - 1, input) > 0);
  fclose (input);
  return text;
}

static void *
later (void *cls)
{
  usleep (1000);
  CHECK (respond (cls, 200, "resumed\n") == MHD_YES);
  MHD_resume_connection (cls);
  return NULL;
}

#define LARGE (1 << 20)

static ssize_t
letters (void *cls, uint64_t position, char *to, size_t most)
{
  size_t i;

  (void) cls;
  for (i = 0; i < most; i++)
    to[i] = (char) ('a' + (position + i) % 26);
  return (ssize_t) most;
}

struct upload {
  size_t size;
  unsigned sum;
};

static enum MHD_Result
describe (struct MHD_Connection *connection)
{
  const union MHD_ConnectionInfo *version = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_PROTOCOL);
  const union MHD_ConnectionInfo *cipher = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CIPHER_ALGO);
  size_t size = 1;
  const unsigned char *certificate = uncork_connection_client_certificate (connection, &size);
  char text[100];

  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) == NULL);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_GNUTLS_CLIENT_CERT) == NULL);
  CHECK (version != NULL && cipher != NULL && (certificate == NULL) == (size == 0));
  snprintf (text, sizeof (text), "version=%d cipher=%d certificate=%zu\n", version->protocol, cipher->cipher_algorithm,
            size);
  return respond (connection, 200, text);
}

HANDLER (answer)
{
  struct upload *upload = *req_cls;
  size_t i;

  UNUSED;
  if (upload == NULL) {
    *req_cls = calloc (1, sizeof (struct upload));
    if (strcmp (url, "/suspend") == 0) {
      pthread_t thread;

      MHD_suspend_connection (connection);
      CHECK (pthread_create (&thread, NULL, later, connection) == 0 && pthread_detach (thread) == 0);
    }
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    for (i = 0; i < *upload_data_size; i++)
      upload->sum = upload->sum * 31 + (unsigned char) upload_data[i];
    upload->size += *upload_data_size;
    *upload_data_size = 0;
    return MHD_YES;
  }
  if (strcmp (url, "/session") == 0)
    return describe (connection);
  if (strcmp (url, "/large") == 0) {
    struct MHD_Response *response = MHD_create_response_from_callback (LARGE, 5000, letters, NULL, NULL);
    enum MHD_Result result = MHD_queue_response (connection, 200, response);

    MHD_destroy_response (response);
    return result;
  }
  if (strcmp (url, "/upload") == 0) {
    char text[60];

    snprintf (text, sizeof (text), "%zu %u\n", upload->size, upload->sum);
    return respond (connection, 200, text);
  }
  return respond (connection, 404, "not found\n");
}

static void
completed (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  (void) cls, (void) connection, (void) code;
  free (*req_cls);
}

static int
input_ended (void)
{
  char byte;

  return read (0, &byte, 1) == 0;
}

static void
run (struct MHD_Daemon *daemon, int by_epoll)
{
  int poller = epoll_create1 (0);
  struct epoll_event event = { .events = EPOLLIN };
  int fd = MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;

  CHECK (fcntl (0, F_SETFL, O_NONBLOCK) == 0 && epoll_ctl (poller, EPOLL_CTL_ADD, fd, &event) == 0);
  while (! input_ended ()) {
    int milliseconds = MHD_get_timeout_i (daemon);

    if (milliseconds < 0 || milliseconds > 50)
      milliseconds = 50;
    if (by_epoll) {
      CHECK (epoll_wait (poller, &event, 1, milliseconds) >= 0);
    } else {
      struct timeval timeout = { .tv_usec = milliseconds * 1000 };
      fd_set reads, writes, excepts;
      int max = -1;

      FD_ZERO (&reads);
      FD_ZERO (&writes);
      FD_ZERO (&excepts);
      CHECK (MHD_get_fdset (daemon, &reads, &writes, &excepts, &max) == MHD_YES);
      CHECK (select (max + 1, &reads, &writes, &excepts, &timeout) >= 0);
    }
    CHECK (MHD_run (daemon) == MHD_YES);
  }
  close (poller);
}

int
main (int argc, char **argv)
{
  struct MHD_OptionItem more[8] = { { MHD_OPTION_END, 0, NULL } };
  unsigned flags = MHD_USE_TLS | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME;
  struct sockaddr_in address = { .sin_family = AF_INET };
  struct MHD_Daemon *daemon;
  const char *mode = argv[1];
  unsigned pool = 0;
  int i, count = 0;
  char *pem[8];
  int files = 0;

  CHECK (argc >= 4);
  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  if (strcmp (mode, "thread") == 0 || strcmp (mode, "pool") == 0)
    flags |= MHD_USE_INTERNAL_POLLING_THREAD;
  if (strcmp (mode, "pool") == 0)
    pool = 2;
  if (strcmp (mode, "connection") == 0)
    flags |= MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION;
  for (i = 4; i < argc; i++) {
    char *value = strchr (argv[i], '=') + 1;
    struct MHD_OptionItem item = { MHD_OPTION_HTTPS_PRIORITIES, 0, value };

    if (strncmp (argv[i], "password=", 9) == 0)
      item.option = MHD_OPTION_HTTPS_KEY_PASSWORD;
    else if (strncmp (argv[i], "priorities=", 11) != 0) {
      item.option = strncmp (argv[i], "trust=", 6) == 0          ? MHD_OPTION_HTTPS_MEM_TRUST
                    : strncmp (argv[i], "certificate2=", 13) == 0 ? MHD_OPTION_HTTPS_MEM_CERT
                                                                  : MHD_OPTION_HTTPS_MEM_KEY;
      item.ptr_value = pem[files++] = file (value);
    }
    more[count++] = item;
    more[count].option = MHD_OPTION_END;
  }
  pem[files++] = file (argv[2]);
  pem[files++] = file (argv[3]);
  daemon = MHD_start_daemon (flags, 0, NULL, NULL, answer, NULL, MHD_OPTION_SOCK_ADDR, &address,
                             MHD_OPTION_HTTPS_MEM_CERT, pem[files - 2], MHD_OPTION_HTTPS_MEM_KEY, pem[files - 1],
                             MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_ARRAY, more,
                             pool ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, pool, MHD_OPTION_END);
  /* The library has copies. */
  for (i = 0; i < files; i++)
    free (pem[i]);
  if (daemon == NULL) {
    puts ("not started");
    return 0;
  }
  printf ("port %d\n", port_of (daemon));
  fflush (stdout);
  if (strcmp (mode, "select") == 0 || strcmp (mode, "epoll") == 0)
    run (daemon, mode[0] == 'e');
  else
    while (! input_ended ())
      ;
  MHD_stop_daemon (daemon);
  return 0;
}
