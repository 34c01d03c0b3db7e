/* What the access handler learns of a request: its line, values of every kind, and its body. */
#include "check.h"

static enum MHD_Result
join (void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
  char *text = cls;

  sprintf (text + strlen (text), "%d:%s=%s;", (int) kind, key, value ? value : "(null)");
  return strcmp (key, "stop") == 0 ? MHD_NO : MHD_YES;
}

static enum MHD_Result
join_n (void *cls, enum MHD_ValueKind kind, const char *key, size_t key_size, const char *value, size_t value_size)
{
  CHECK (strlen (key) == key_size && (value == NULL || strlen (value) <= value_size));
  return join (cls, kind, key, value);
}

struct upload {
  char text[4096];
  int calls;
};

static void
look (struct MHD_Connection *connection, char *text)
{
  const char *value;
  size_t size;

  CHECK (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "x-TEST") != NULL);
  value = MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "X-Test");
  CHECK (value == MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "X-TEST"));
  CHECK (strcmp (value, "a, b") == 0);
  CHECK (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "X-None") == NULL);
  CHECK (MHD_lookup_connection_value (connection, MHD_COOKIE_KIND, "X-Test") == NULL);
  CHECK (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, NULL) == NULL);
  CHECK (MHD_lookup_connection_value_n (connection, MHD_GET_ARGUMENT_KIND, "nul", 3, &value, &size) == MHD_YES);
  CHECK (size == 3 && memcmp (value, "x\0y", 4) == 0);
  CHECK (MHD_lookup_connection_value_n (connection, MHD_GET_ARGUMENT_KIND, "nu", 2, NULL, NULL) == MHD_NO);
  CHECK (MHD_lookup_connection_value_n (connection, MHD_GET_ARGUMENT_KIND, "nul", 3, NULL, NULL) == MHD_YES);
  CHECK (MHD_get_connection_values (connection, MHD_COOKIE_KIND | MHD_HEADER_KIND, NULL, NULL) == 6);
  CHECK (MHD_get_connection_values (connection, MHD_COOKIE_KIND, join, text) == 2);
  CHECK (MHD_get_connection_values_n (connection, MHD_GET_ARGUMENT_KIND, join_n, text) == 3);
  CHECK (MHD_set_connection_value (connection, MHD_POSTDATA_KIND, "own", "value") == MHD_YES);
  CHECK (MHD_set_connection_value_n (connection, MHD_POSTDATA_KIND, "own2", 4, NULL, 0) == MHD_YES);
  CHECK (MHD_set_connection_value_n (connection, MHD_POSTDATA_KIND, NULL, 4, NULL, 0) == MHD_NO);
  CHECK (MHD_set_connection_value (connection, (enum MHD_ValueKind) 0, "own", "value") == MHD_NO);
  CHECK (MHD_get_connection_values (connection, MHD_POSTDATA_KIND, join, text) == 2);
}

HANDLER (answer)
{
  struct upload *upload = *req_cls;

  UNUSED;
  CHECK (strcmp (version, "HTTP/1.1") == 0);
  if (upload == NULL) {
    CHECK (*upload_data_size == 0 && upload_data == NULL);
    upload = *req_cls = calloc (1, sizeof (*upload));
    sprintf (upload->text, "%s %s|", method, url);
    if (strcmp (url, "/va lues") == 0)
      look (connection, upload->text);
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    /* At most three bytes at once: the rest comes again. */
    size_t n = *upload_data_size < 3 ? *upload_data_size : 3;

    strncat (upload->text, upload_data, n);
    *upload_data_size -= n;
    upload->calls++;
    return MHD_YES;
  }
  if (strcmp (method, "PUT") == 0)
    CHECK (MHD_get_connection_values (connection, MHD_FOOTER_KIND, join, upload->text) == 1);
  CHECK (strcmp (method, "POST") != 0 || upload->calls >= 4);
  respond (connection, 200, upload->text);
  free (upload);
  *req_cls = NULL;
  return MHD_YES;
}

/* Early responses, and none. */
HANDLER (early)
{
  UNUSED;
  if (strcmp (url, "/no") == 0)
    return MHD_NO;
  if (strcmp (url, "/late") == 0 && *upload_data_size == 0 && *req_cls == NULL) {
    *req_cls = &early;
    return MHD_YES;
  }
  CHECK (MHD_queue_response (connection, 100, NULL) == MHD_NO);
  return respond (connection, 403, "no\n");
}

static void *
note (void *cls, const char *uri, struct MHD_Connection *connection)
{
  CHECK (connection != NULL);
  sprintf (cls, "%s", uri);
  return NULL;
}

static size_t
upper (void *cls, struct MHD_Connection *connection, char *text)
{
  CHECK (cls != NULL && connection != NULL);
  for (char *c = text; *c != '\0'; c++)
    if (*c == 'x')
      *c = 'X';
  return strlen (text);
}

int
main (void)
{
  char uri[100] = "", *text;
  struct MHD_Daemon *daemon =
    MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_URI_LOG_CALLBACK, note, uri, MHD_OPTION_END);
  uint16_t port = port_of (daemon);

  EXPECT (ask (port, GET ("/a%2Fb%20c?q=%41")), 200, "GET /a/b c|");
  CHECK (strcmp (uri, "/a%2Fb%20c?q=%41") == 0);
  EXPECT (ask (port, "GET /va%20lues?q=a+b%21&nul=x%00y&flag HTTP/1.1\r\n"
                     "X-Test: a, b\r\nCookie: k=v; q=\"w\"\r\n" END),
          200,
          "GET /va lues|2:k=v;2:q=w;8:q=a b!;8:nul=x;8:flag=(null);4:own=value;4:own2=(null);");
  EXPECT (ask (port, "OPTIONS * HTTP/1.1\r\n" END), 200, "OPTIONS *|");
  EXPECT (ask (port, "POST / HTTP/1.1\r\nContent-Length: 10\r\n" END "0123456789"), 200, "POST /|0123456789");
  EXPECT (ask (port, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END
                     "5\r\nhello\r\n0\r\nX-Foot: f\r\n\r\n"),
          200,
          "PUT /|hello16:X-Foot=f;");
  EXPECT (ask (port, "DELETE / HTTP/1.1\r\nContent-Length: 0\r\n" END), 200, "DELETE /|");
  text = ask (port, "HEAD /h HTTP/1.1\r\n" END);
  CHECK (strstr (text, "Content-Length: 8\r\n") != NULL);
  EXPECT (text, 200, "");
  /* A path that C would see only a part of. */
  EXPECT (ask (port, GET ("/a%00b")), 400, NULL);
  MHD_stop_daemon (daemon);

  daemon = MHD_start_daemon (MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, early, NULL, MHD_OPTION_END);
  port = port_of (daemon);
  EXPECT (ask (port, GET ("/")), 403, "no\n");
  EXPECT (ask (port, "POST / HTTP/1.1\r\nContent-Length: 10\r\n" END "0123456789"), 403, "no\n");
  EXPECT (ask (port, "POST /late HTTP/1.1\r\nContent-Length: 10\r\n" END "0123456789"), 403, "no\n");
  text = ask (port, GET ("/no"));
  CHECK (*text == '\0');
  free (text);
  MHD_stop_daemon (daemon);

  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_UNESCAPE_CALLBACK, upper, uri,
                             MHD_OPTION_END);
  EXPECT (ask (port_of (daemon), GET ("/x%20y")), 200, "GET /X%20y|");
  MHD_stop_daemon (daemon);
  CHECK (MHD_get_connection_values (NULL, MHD_HEADER_KIND, NULL, NULL) == -1);
  CHECK (MHD_get_connection_values_n (NULL, MHD_HEADER_KIND, NULL, NULL) == -1);
  CHECK (MHD_lookup_connection_value (NULL, MHD_HEADER_KIND, "x") == NULL);
  CHECK (MHD_lookup_connection_value_n (NULL, MHD_HEADER_KIND, "x", 1, NULL, NULL) == MHD_NO);
  CHECK (MHD_set_connection_value (NULL, MHD_HEADER_KIND, "x", "y") == MHD_NO);
  return 0;
}
