/* A server that responds to every request with "Hello, world!\n".
 *
 *   hello 127.0.0.1:8080
 *
 * It ends at SIGTERM or SIGINT.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum MHD_Result
hello (void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
       const char *upload_data, size_t *upload_data_size, void **req_cls)
{
  (void) url, (void) version, (void) upload_data, (void) req_cls;
  if (*upload_data_size > 0) {
    *upload_data_size = 0; /* Bodies are read and ignored. */
    return MHD_YES;
  }
  if (strcmp (method, "GET") != 0 && strcmp (method, "HEAD") != 0)
    return MHD_NO;
  return MHD_queue_response (connection, MHD_HTTP_OK, cls);
}

int
main (int argc, char **argv)
{
  static const char text[] = "Hello, world!\n";
  struct sockaddr_in address = { .sin_family = AF_INET };
  char *colon = argc == 2 ? strrchr (argv[1], ':') : NULL;
  struct MHD_Response *response;
  struct MHD_Daemon *daemon;
  sigset_t signals;
  int signal;

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
  sigemptyset (&signals);
  sigaddset (&signals, SIGTERM);
  sigaddset (&signals, SIGINT);
  /* Before the daemon starts its thread, which inherits the mask. */
  sigprocmask (SIG_BLOCK, &signals, NULL);
  response = MHD_create_response_from_buffer_static (sizeof (text) - 1, text);
  MHD_add_response_header (response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
  daemon = MHD_start_daemon (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG, 0, NULL, NULL, hello, response,
                             MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_END);
  if (daemon == NULL)
    return 1;
  printf ("listening on http://%s:%u/\n", argv[1], (unsigned) MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
  fflush (stdout);
  sigwait (&signals, &signal);
  MHD_stop_daemon (daemon);
  MHD_destroy_response (response);
  return 0;
}
