/* Two daemons without threads, in the program's own loop by epoll.
 *
 *   epoll_loop 127.0.0.1:8080 127.0.0.1:8081
 *
 * It ends when its standard input does.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define DAEMONS 2

static enum MHD_Result
handle (void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *upload_data, size_t *upload_data_size, void **req_cls)
{
  (void) url, (void) method, (void) version, (void) upload_data, (void) req_cls;
  if (*upload_data_size > 0) {
    *upload_data_size = 0; /* Bodies are read and ignored. */
    return MHD_YES;
  }
  return MHD_queue_response (connection, MHD_HTTP_OK, cls);
}

/* Starts a daemon; ends the program if that fails. */
static struct MHD_Daemon *
start (char *argument, struct MHD_Response *response)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  char *colon = strrchr (argument, ':');
  struct MHD_Daemon *daemon;

  if (colon != NULL)
    *colon = '\0';
  if (colon == NULL || inet_pton (AF_INET, argument, &address.sin_addr) != 1) {
    fprintf (stderr, "invalid address %s: expected one of IPv4, and a port\n", argument);
    exit (2);
  }
  address.sin_port = htons ((uint16_t) atoi (colon + 1));
  daemon = MHD_start_daemon (MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, response, MHD_OPTION_SOCK_ADDR,
                             &address, MHD_OPTION_END);
  if (daemon == NULL)
    exit (1);
  printf ("listening on http://%s:%u/\n", argument,
          (unsigned) MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
  return daemon;
}

int
main (int argc, char **argv)
{
  static const char *const texts[DAEMONS] = { "the first\n", "the second\n" };
  struct MHD_Response *responses[DAEMONS];
  struct MHD_Daemon *daemons[DAEMONS];
  int poller = epoll_create1 (EPOLL_CLOEXEC), ends = 0, i;
  struct epoll_event event = { .events = EPOLLIN };

  if (argc != 1 + DAEMONS) {
    fprintf (stderr, "usage: %s ADDRESS:PORT ADDRESS:PORT\n", argv[0]);
    return 2;
  }
  for (i = 0; i < DAEMONS; i++) {
    responses[i] = MHD_create_response_from_buffer_static (strlen (texts[i]), texts[i]);
    daemons[i] = start (argv[1 + i], responses[i]);
    event.data.ptr = daemons[i];
    epoll_ctl (poller, EPOLL_CTL_ADD, MHD_get_daemon_info (daemons[i], MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, &event);
  }
  fflush (stdout);
  event.data.ptr = NULL;
  epoll_ctl (poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  while (!ends) {
    struct epoll_event events[8];
    int64_t wait = -1;
    char byte;
    int count;

    /* The earliest timeout of the daemons. */
    for (i = 0; i < DAEMONS; i++) {
      int64_t left = MHD_get_timeout64s (daemons[i]);

      if (left >= 0 && (wait < 0 || left < wait))
        wait = left;
    }
    count = epoll_wait (poller, events, 8, wait > 60000 ? 60000 : (int) wait);
    for (i = 0; i < count; i++)
      if (events[i].data.ptr == NULL)
        ends = read (STDIN_FILENO, &byte, 1) <= 0;
    /* Each: its descriptor may be readable, or its timeout may have passed. It does not wait. */
    for (i = 0; i < DAEMONS; i++)
      MHD_run (daemons[i]);
  }
  for (i = 0; i < DAEMONS; i++) {
    MHD_stop_daemon (daemons[i]);
    MHD_destroy_response (responses[i]);
  }
  close (poller);
  return 0;
}
