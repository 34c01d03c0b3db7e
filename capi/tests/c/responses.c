/* Responses from memory: every way to create one, its fields, and when its memory is released. */
#include "check.h"

static int released;

static void
count (void *cls)
{
  CHECK (cls != NULL);
  released++;
}

static void
free_and_count (void *cls)
{
  free (cls);
  released++;
}

static enum MHD_Result
sum (void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
  *(size_t *) cls += (size_t) kind + strlen (key) + strlen (value);
  return strcmp (key, "X-Last") == 0 ? MHD_NO : MHD_YES;
}

HANDLER (give)
{
  UNUSED;
  CHECK (MHD_queue_response (connection, 200, *(struct MHD_Response **) cls) == MHD_YES);
  /* Only one. */
  CHECK (MHD_queue_response (connection, 200, *(struct MHD_Response **) cls) == MHD_NO);
  /* It is sent, since the callback has not returned. */
  if (MHD_get_response_header (*(struct MHD_Response **) cls, "X-Late") == NULL)
    CHECK (MHD_add_response_header (*(struct MHD_Response **) cls, "X-Late", "yes") == MHD_YES);
  return MHD_YES;
}

static struct MHD_Response *current;
static uint16_t port;

static void
try (struct MHD_Response *response, const char *body)
{
  CHECK (response != NULL);
  current = response;
  for (int i = 0; i < 2; i++) {
    char *text = ask (port, GET ("/"));

    CHECK (strstr (text, "\r\nX-Late: yes\r\n") != NULL);
    EXPECT (text, 200, body);
  }
  MHD_destroy_response (response);
}

static void
fields (void)
{
  struct MHD_Response *response = MHD_create_response_empty (MHD_RF_NONE);
  size_t total = 0;

  CHECK (MHD_add_response_header (response, "X-One", "1") == MHD_YES);
  CHECK (MHD_add_response_header (response, "X-One", "2") == MHD_YES);
  CHECK (MHD_add_response_footer (response, "X-Foot", "f") == MHD_YES);
  CHECK (MHD_get_response_headers (response, NULL, NULL) == 3);
  CHECK (strcmp (MHD_get_response_header (response, "x-one"), "1") == 0);
  CHECK (MHD_del_response_header (response, "X-One", "3") == MHD_NO);
  CHECK (MHD_del_response_header (response, "X-One", "1") == MHD_YES);
  CHECK (strcmp (MHD_get_response_header (response, "X-One"), "2") == 0);
  CHECK (MHD_get_response_header (response, "X-None") == NULL);
  CHECK (MHD_add_response_header (response, "X-Last", "z") == MHD_YES);
  CHECK (MHD_add_response_header (response, "X-Never", "n") == MHD_YES);
  CHECK (MHD_get_response_headers (response, sum, &total) == 3);
  CHECK (total == (MHD_HEADER_KIND + 5 + 1) + (MHD_FOOTER_KIND + 6 + 1) + (MHD_HEADER_KIND + 6 + 1));
  /* Nothing splits a response. */
  CHECK (MHD_add_response_header (response, "X Bad", "1") == MHD_NO);
  CHECK (MHD_add_response_header (response, "", "1") == MHD_NO);
  CHECK (MHD_add_response_header (response, "X-Bad", "") == MHD_NO);
  CHECK (MHD_add_response_header (response, "X-Bad", "1\r\nX-Worse: 2") == MHD_NO);
  CHECK (MHD_add_response_header (response, "X-Bad\n", "1") == MHD_NO);
  CHECK (MHD_add_response_header (response, "Content-Length", "7") == MHD_NO);
  CHECK (MHD_add_response_header (response, "Transfer-Encoding", "gzip") == MHD_NO);
  CHECK (MHD_add_response_header (response, NULL, "1") == MHD_NO);
  CHECK (MHD_add_response_header (response, "X-Bad", NULL) == MHD_NO);
  CHECK (MHD_add_response_header (NULL, "X-Bad", "1") == MHD_NO);
  CHECK (MHD_add_response_footer (NULL, "X-Bad", "1") == MHD_NO);
  CHECK (MHD_del_response_header (response, NULL, NULL) == MHD_NO);
  CHECK (MHD_get_response_headers (NULL, NULL, NULL) == 0 && MHD_get_response_header (NULL, "x") == NULL);
  CHECK (MHD_set_response_options (NULL, MHD_RF_NONE, MHD_RO_END) == MHD_NO);
  CHECK (MHD_set_response_options (response, MHD_RF_HTTP_VERSION_1_0_ONLY, MHD_RO_END) == MHD_YES);
  try (response, "");
}

int
main (void)
{
  static char text[] = "text", big[300001];
  struct MHD_IoVec pieces[3] = { { "one", 3 }, { NULL, 0 }, { big, 300000 } };
  struct MHD_Response *response;
  char *both = malloc (300004), *copied = strdup ("copied");
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, give, &current, MHD_OPTION_END);

  port = port_of (daemon);
  memset (big, 'b', sizeof (big) - 1);
  sprintf (both, "one%s", big);
  try (MHD_create_response_from_buffer (4, text, MHD_RESPMEM_PERSISTENT), "text");
  try (MHD_create_response_from_buffer (5, strdup ("freed"), MHD_RESPMEM_MUST_FREE), "freed");
  response = MHD_create_response_from_buffer (6, copied, MHD_RESPMEM_MUST_COPY);
  memset (copied, '!', 6);
  free (copied);
  try (response, "copied");
  try (MHD_create_response_from_data (5, strdup ("freed"), 1, 0), "freed");
  try (MHD_create_response_from_data (4, text, 0, 1), "text");
  try (MHD_create_response_from_buffer_static (4, text), "text");
  try (MHD_create_response_from_buffer_copy (3, text), "tex");
  try (MHD_create_response_from_buffer (0, NULL, MHD_RESPMEM_PERSISTENT), "");
  try (MHD_create_response_from_buffer (300000, big, MHD_RESPMEM_PERSISTENT), big);
  try (MHD_create_response_from_buffer (300000, big, MHD_RESPMEM_MUST_COPY), big);
  try (MHD_create_response_from_buffer (300000, strdup (big), MHD_RESPMEM_MUST_FREE), big);
  CHECK (released == 0);
  try (MHD_create_response_from_buffer_with_free_callback (4, strdup ("free"), free_and_count), "free");
  CHECK (released == 1);
  try (MHD_create_response_from_buffer_with_free_callback_cls (4, text, count, &port), "text");
  CHECK (released == 2);
  try (MHD_create_response_from_iovec (pieces, 3, count, &port), both);
  MHD_stop_daemon (daemon); /* The last stream of memory has ended at the latest now. */
  CHECK (released == 3);
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, give, &current, MHD_OPTION_END);
  port = port_of (daemon);
  try (MHD_create_response_from_iovec (pieces, 1, NULL, NULL), "one");
  try (MHD_create_response_from_iovec (NULL, 0, NULL, NULL), "");
  fields ();
  CHECK (MHD_create_response_from_buffer (1, NULL, MHD_RESPMEM_PERSISTENT) == NULL);
  CHECK (MHD_create_response_from_buffer_with_free_callback (1, NULL, count) == NULL);
  CHECK (MHD_create_response_from_iovec (NULL, 2, count, &port) == NULL);
  CHECK (MHD_create_response_from_callback (1, 0, NULL, NULL, NULL) == NULL);
  CHECK (MHD_create_response_from_fd (1, -1) == NULL);
  CHECK (MHD_create_response_from_fd_at_offset64 (UINT64_MAX, 0, 1) == NULL);
  CHECK (released == 3);
  MHD_destroy_response (NULL);
  CHECK (MHD_queue_response (NULL, 200, NULL) == MHD_NO);
  MHD_stop_daemon (daemon);
  MHD_stop_daemon (NULL);
  free (both);
  return 0;
}
