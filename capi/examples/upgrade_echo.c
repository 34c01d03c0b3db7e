/* A server that changes to the protocol "echo", and sends back every byte that it gets.
 *
 *   upgrade_echo 127.0.0.1:8080
 *   upgrade_echo 127.0.0.1:8443 certificate.pem key.pem
 *
 * With a certificate and its key it speaks HTTPS. The handler is the same: it never gets a socket. It is written to the
 * text of the proposal of 2012.
 *
 * It ends at SIGTERM or SIGINT.
 */
#define MHD_UPGRADE_2012
#include <arpa/inet.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* `data_in_size` and `data_out_size` are how much there is, and how much there is room for; then how much of it was
   used. */
static enum MHD_UpgradeEventMask
echo (void *cls, struct MHD_Connection *connection, void **con_cls, size_t *data_in_size, const char *data_in,
      size_t *data_out_size, char *data_out)
{
  size_t available = *data_in_size, size = available < *data_out_size ? available : *data_out_size;

  (void) cls, (void) connection, (void) con_cls;
  memcpy (data_out, data_in, size);
  *data_in_size = *data_out_size = size;
  if (size < available)
    return MHD_UPGRADE_EVENT_WRITE; /* Not READ: no more input before this is sent. */
  /* When the peer has finished, there is nothing to wait for any more: then this ends the connection. A handler that has
     something left to say asks MHD_upgrade_events. */
  return MHD_UPGRADE_EVENT_READ;
}

/* The responses: one that changes the protocol, and one for who has not asked for that. */
struct responses {
  struct MHD_Response *upgrade, *required;
};

static enum MHD_Result
handle (void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *upload_data, size_t *upload_data_size, void **req_cls)
{
  const struct responses *responses = cls;
  const char *upgrade = MHD_lookup_connection_value (connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_UPGRADE);

  (void) url, (void) method, (void) version, (void) upload_data, (void) req_cls;
  if (*upload_data_size > 0) {
    *upload_data_size = 0; /* Bodies are read and ignored. */
    return MHD_YES;
  }
  if (upgrade == NULL || strcasecmp (upgrade, "echo") != 0)
    return MHD_queue_response (connection, MHD_HTTP_UPGRADE_REQUIRED, responses->required);
  return MHD_queue_response (connection, MHD_HTTP_SWITCHING_PROTOCOLS, responses->upgrade);
}

/* Returns the text of a file, to be freed; ends the program if it cannot be read. */
static char *
read_file (const char *path)
{
  FILE *file = fopen (path, "r");
  char *text = calloc (1, 100000);

  if (file == NULL || text == NULL || fread (text, 1, 99999, file) == 0) {
    perror (path);
    exit (1);
  }
  fclose (file);
  return text;
}

int
main (int argc, char **argv)
{
  static const char text[] = "This server speaks the protocol \"echo\".\n";
  struct sockaddr_in address = { .sin_family = AF_INET };
  char *colon = argc == 2 || argc == 4 ? strrchr (argv[1], ':') : NULL, *certificate = NULL, *key = NULL;
  struct responses responses;
  struct MHD_Daemon *daemon;
  sigset_t signals;
  int signal;

  if (colon == NULL) {
    fprintf (stderr, "usage: %s ADDRESS:PORT [CERTIFICATE KEY]\n", argv[0]);
    return 2;
  }
  *colon = '\0';
  address.sin_port = htons ((uint16_t) atoi (colon + 1));
  if (inet_pton (AF_INET, argv[1], &address.sin_addr) != 1) {
    fprintf (stderr, "invalid address %s: expected one of IPv4\n", argv[1]);
    return 2;
  }
  if (argc == 4) {
    certificate = read_file (argv[2]);
    key = read_file (argv[3]);
  }
  sigemptyset (&signals);
  sigaddset (&signals, SIGTERM);
  sigaddset (&signals, SIGINT);
  /* Before the daemon starts its thread, which inherits the mask. */
  sigprocmask (SIG_BLOCK, &signals, NULL);
  responses.upgrade = MHD_create_response_for_upgrade (echo, NULL);
  MHD_add_response_header (responses.upgrade, MHD_HTTP_HEADER_UPGRADE, "echo");
  responses.required = MHD_create_response_from_buffer_static (sizeof (text) - 1, text);
  MHD_add_response_header (responses.required, MHD_HTTP_HEADER_UPGRADE, "echo");
  daemon = MHD_start_daemon (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG | MHD_ALLOW_UPGRADE
                               | (certificate ? MHD_USE_TLS : 0),
                             0, NULL, NULL, handle, &responses, MHD_OPTION_SOCK_ADDR, &address,
                             MHD_OPTION_HTTPS_MEM_CERT, certificate, MHD_OPTION_HTTPS_MEM_KEY, key, MHD_OPTION_END);
  free (certificate);
  free (key);
  if (daemon == NULL)
    return 1;
  printf ("listening on %s://%s:%u/\n", argc == 4 ? "https" : "http", argv[1],
          (unsigned) MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
  fflush (stdout);
  sigwait (&signals, &signal);
  MHD_stop_daemon (daemon);
  MHD_destroy_response (responses.upgrade);
  MHD_destroy_response (responses.required);
  return 0;
}
