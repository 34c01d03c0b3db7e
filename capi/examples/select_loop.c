/* A daemon without threads, in the program's own loop by `select`. The program also counts seconds, and responds with
 * their number.
 *
 *   select_loop 127.0.0.1:8080
 *
 * It ends when its standard input does.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum MHD_Result
handle (void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *upload_data, size_t *upload_data_size, void **req_cls)
{
  const unsigned *ticks = cls;
  struct MHD_Response *response;
  enum MHD_Result result;
  char text[50];

  (void) url, (void) method, (void) version, (void) upload_data, (void) req_cls;
  if (*upload_data_size > 0) {
    *upload_data_size = 0; /* Bodies are read and ignored. */
    return MHD_YES;
  }
  snprintf (text, sizeof (text), "%u seconds\n", *ticks);
  response = MHD_create_response_from_buffer_copy (strlen (text), text);
  result = MHD_queue_response (connection, MHD_HTTP_OK, response);
  MHD_destroy_response (response);
  return result;
}

/* Returns the milliseconds until the next second. */
static uint64_t
until_tick (time_t next)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec >= next ? 0 : (uint64_t) (next - now.tv_sec) * 1000 - (uint64_t) now.tv_nsec / 1000000;
}

int
main (int argc, char **argv)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  char *colon = argc == 2 ? strrchr (argv[1], ':') : NULL;
  struct MHD_Daemon *daemon;
  struct timespec now;
  unsigned ticks = 0;
  time_t next;

  if (colon == NULL) {
    fprintf (stderr, "usage: %s ADDRESS:PORT\n", argv[0]);
    return 2;
  }
  *colon = '\0';
  address.sin_port = htons ((uint16_t) atoi (colon + 1));
  if (inet_pton (AF_INET, argv[1], &address.sin_addr) != 1) {
    fprintf (stderr, "invalid address %s: expected one of IPv4\n", argv[1]);
    return 2;
  }
  daemon = MHD_start_daemon (MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, &ticks, MHD_OPTION_SOCK_ADDR, &address,
                             MHD_OPTION_END);
  if (daemon == NULL)
    return 1;
  printf ("listening on http://%s:%u/\n", argv[1],
          (unsigned) MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
  fflush (stdout);
  clock_gettime (CLOCK_MONOTONIC, &now);
  next = now.tv_sec + 1;
  for (;;) {
    fd_set reads, writes, excepts;
    uint64_t wait = until_tick (next), left;
    struct timeval timeout;
    int max = STDIN_FILENO;
    char byte;

    FD_ZERO (&reads);
    FD_ZERO (&writes);
    FD_ZERO (&excepts);
    FD_SET (STDIN_FILENO, &reads);
    /* One descriptor, however many connections there are. */
    if (MHD_get_fdset (daemon, &reads, &writes, &excepts, &max) != MHD_YES)
      return 1;
    if (MHD_get_timeout64 (daemon, &left) == MHD_YES && left < wait)
      wait = left;
    timeout.tv_sec = (time_t) (wait / 1000);
    timeout.tv_usec = (suseconds_t) (wait % 1000 * 1000);
    if (select (max + 1, &reads, &writes, &excepts, &timeout) < 0) {
      perror ("select");
      return 1;
    }
    if (FD_ISSET (STDIN_FILENO, &reads) && read (STDIN_FILENO, &byte, 1) <= 0)
      break;
    if (until_tick (next) == 0) {
      ticks++;
      next++;
    }
    MHD_run_from_select (daemon, &reads, &writes, &excepts);
  }
  MHD_stop_daemon (daemon);
  return 0;
}
