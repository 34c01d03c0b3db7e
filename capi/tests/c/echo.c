/* Responds to every request with its body. `tests/interface/conformance.rs` compares it with the same in Rust. Ends when
 * standard input does.
 */
#include "check.h"

struct body {
  size_t size;
  char *bytes;
};

HANDLER (echo)
{
  struct body *body = *req_cls;
  struct MHD_Response *response;
  enum MHD_Result result;

  UNUSED;
  if (body == NULL) {
    *req_cls = calloc (1, sizeof (struct body));
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    body->bytes = realloc (body->bytes, body->size + *upload_data_size);
    memcpy (body->bytes + body->size, upload_data, *upload_data_size);
    body->size += *upload_data_size;
    *upload_data_size = 0;
    return MHD_YES;
  }
  response = MHD_create_response_from_buffer (body->size, body->bytes, MHD_RESPMEM_MUST_COPY);
  result = MHD_queue_response (connection, 200, response);
  MHD_destroy_response (response);
  return result;
}

static void
completed (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  struct body *body = *req_cls;

  (void) cls, (void) connection, (void) code;
  if (body != NULL)
    free (body->bytes);
  free (body);
}

int
main (void)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  struct MHD_Daemon *daemon;
  char byte;

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, echo, NULL, MHD_OPTION_SOCK_ADDR, &address,
                             MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
  printf ("port %d\n", port_of (daemon));
  fflush (stdout);
  while (read (0, &byte, 1) > 0)
    ;
  MHD_stop_daemon (daemon);
  return 0;
}
