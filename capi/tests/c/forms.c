/* The post processor: fields and files in pieces of every size, malformed and unfinished forms, wrong use. */
#include "check.h"

/* A body, and what the iterator has got of it. */
struct form {
  char body[8192], text[8192];
  size_t length, buffer_size;
  /* Bytes of the current value. */
  uint64_t offset;
  int calls;
};

/* Not each size of pieces: under valgrind. */
static int is_brief;

static enum MHD_Result
join (void *cls, enum MHD_ValueKind kind, const char *key, const char *filename, const char *content_type,
      const char *transfer_encoding, const char *data, uint64_t off, size_t size)
{
  struct form *form = cls;
  char *end = form->text + strlen (form->text);

  CHECK (kind == MHD_POSTDATA_KIND && key != NULL && data != NULL && data[size] == '\0');
  CHECK (size <= form->buffer_size);
  form->calls++;
  if (off == 0)
    end += sprintf (end, "%s%s%s%s%s%s%s%s=", *form->text ? ";" : "", key, filename ? " f:" : "",
                    filename ? filename : "", content_type ? " t:" : "", content_type ? content_type : "",
                    transfer_encoding ? " e:" : "", transfer_encoding ? transfer_encoding : "");
  else
    CHECK (off == form->offset && size > 0);
  form->offset = off + size;
  for (size_t i = 0; i < size; i++)
    *end++ = data[i] == '\0' ? '0' : data[i];
  *end = '\0';
  return strcmp (key, "stop") == 0 ? MHD_NO : MHD_YES;
}

/* Processes the body in pieces of this size. */
static void
process (struct MHD_Connection *connection, struct form *form, size_t size)
{
  struct MHD_PostProcessor *processor = MHD_create_post_processor (connection, form->buffer_size, join, form);
  enum MHD_Result result = MHD_YES;

  form->text[0] = '\0';
  if (processor == NULL) {
    strcpy (form->text, "none");
    return;
  }
  for (size_t at = 0; at < form->length; at += size) {
    size_t n = form->length - at < size ? form->length - at : size;
    /* Memory of its own, so that valgrind sees if more is read. */
    char *piece = malloc (n);

    memcpy (piece, form->body + at, n);
    CHECK (result == MHD_YES || MHD_post_process (processor, piece, n) == MHD_NO);
    if (result == MHD_YES)
      result = MHD_post_process (processor, piece, n);
    free (piece);
  }
  CHECK (MHD_post_process (processor, NULL, 0) == MHD_YES);
  if (MHD_destroy_post_processor (processor) == MHD_NO)
    strcat (form->text, result == MHD_NO ? " invalid" : " unfinished");
  else
    CHECK (result == MHD_YES);
}

HANDLER (receive)
{
  struct form *form = *req_cls;

  UNUSED;
  if (form == NULL) {
    form = *req_cls = calloc (1, sizeof (*form));
    form->buffer_size = (size_t) atoi (url + 1);
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    CHECK (form->length + *upload_data_size <= sizeof (form->body));
    memcpy (form->body + form->length, upload_data, *upload_data_size);
    form->length += *upload_data_size;
    *upload_data_size = 0;
    return MHD_YES;
  }
  char whole[sizeof (form->text)];

  process (connection, form, form->length + 1);
  strcpy (whole, form->text);
  for (size_t size = 1; size < form->length; size += is_brief && size > 8 ? size / 2 : 1) {
    process (connection, form, size);
    if (strcmp (whole, form->text) != 0) {
      fprintf (stderr, "in pieces of %zu: \"%s\", not \"%s\"\n", size, form->text, whole);
      exit (1);
    }
  }
  respond (connection, 200, whole);
  free (form);
  *req_cls = NULL;
  return MHD_YES;
}

static uint16_t port;

/* Sends a body and returns the response. */
static char *
post (const char *content_type, const char *body)
{
  char request[10000];

  sprintf (request, "POST /1024 HTTP/1.1\r\nContent-Type: %s\r\nContent-Length: %zu\r\n" END "%s", content_type,
           strlen (body), body);
  return ask (port, request);
}

#define URLENCODED "application/x-www-form-urlencoded"
#define MULTIPART "multipart/form-data; boundary=AaB03x"
#define PART "--AaB03x\r\nContent-Disposition: form-data; name="
#define LAST "--AaB03x--\r\n"

/* An iterator that wants no more. */
static enum MHD_Result
reject (void *cls, enum MHD_ValueKind kind, const char *key, const char *filename, const char *content_type,
        const char *transfer_encoding, const char *data, uint64_t off, size_t size)
{
  (void) kind, (void) key, (void) filename, (void) content_type, (void) transfer_encoding, (void) data, (void) off;
  *(size_t *) cls += size;
  return MHD_NO;
}

HANDLER (misuse)
{
  struct MHD_PostProcessor *processor;
  size_t size = 0;

  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = cls;
    return MHD_YES;
  }
  *upload_data_size = 0;
  CHECK (MHD_create_post_processor (NULL, 1024, reject, NULL) == NULL);
  CHECK (MHD_create_post_processor (connection, 1024, NULL, NULL) == NULL);
  CHECK (MHD_create_post_processor (connection, 255, reject, NULL) == NULL);
  CHECK (MHD_create_post_processor (connection, 0, reject, NULL) == NULL);
  CHECK (MHD_post_process (NULL, "a", 1) == MHD_NO);
  CHECK (MHD_post_process (NULL, NULL, 0) == MHD_YES);
  CHECK (MHD_destroy_post_processor (NULL) == MHD_YES);

  processor = MHD_create_post_processor (connection, 256, reject, &size);
  CHECK (processor != NULL && MHD_post_process (processor, NULL, 1) == MHD_NO);
  CHECK (MHD_destroy_post_processor (processor) == MHD_YES);

  processor = MHD_create_post_processor (connection, 256, reject, &size);
  CHECK (MHD_post_process (processor, "abc", 3) == MHD_YES);
  CHECK (MHD_post_process (processor, "=1&d=2", 6) == MHD_NO && size == 1);
  CHECK (MHD_post_process (processor, "&e=3", 4) == MHD_NO && size == 1);
  CHECK (MHD_destroy_post_processor (processor) == MHD_NO && size == 1);

  /* A value that is empty until the end is reported by the end. */
  processor = MHD_create_post_processor (connection, 256, reject, &size);
  CHECK (MHD_post_process (processor, "abc=", 4) == MHD_YES && size == 1);
  CHECK (MHD_destroy_post_processor (processor) == MHD_NO);

  /* The program may leave with a form that has only begun. */
  processor = MHD_create_post_processor (connection, SIZE_MAX, reject, &size);
  CHECK (processor != NULL && MHD_post_process (processor, "a", 1) == MHD_YES);
  CHECK (MHD_destroy_post_processor (processor) == MHD_NO && size == 1);
  return respond (connection, 200, "ok");
}

static void
urlencoded (void)
{
  EXPECT (post (URLENCODED, ""), 200, "");
  EXPECT (post (URLENCODED, "abc=def&x=5"), 200, "abc=def;x=5");
  EXPECT (post ("APPLICATION/x-www-form-urlencoded; charset=utf-8", "a=b"), 200, "a=b");
  EXPECT (post (URLENCODED, "space=%20+&key%201=&nul=a%00b&&c"), 200, "space=  ;key 1=;nul=a0b unfinished");
  EXPECT (post (URLENCODED, "a&b=&c=%4&d=%4x%"), 200, "a=;b=;c=%4;d=%4x%");
  /* A line end ends the form. */
  EXPECT (post (URLENCODED, "a=1&b\r\n\n"), 200, "a=1;b=");
  EXPECT (post (URLENCODED, "a=1\n&b=2"), 200, "a=1 invalid");
  EXPECT (post (URLENCODED, "a=1&stop=2&c=3"), 200, "a=1;stop=2 invalid");
}

static void
multipart (void)
{
  static const char nested[] =
    PART "\"pics\"\r\nContent-type: multipart/mixed, boundary=BbC04y\r\n\r\n"
    "--BbC04y\r\nContent-disposition: attachment; filename=\"1.txt\"\r\nContent-Type: text/plain\r\n\r\none\r\n"
    "--BbC04y\r\nContent-disposition: attachment; filename=\"2.gif\"\r\nContent-type: image/gif\r\n"
    "Content-Transfer-Encoding: binary\r\n\r\n\r\n--BbC04y--\r\n" PART "last\r\n\r\n1\r\n--AaB03x--";

  EXPECT (post (MULTIPART, ""), 200, "");
  EXPECT (post (MULTIPART, LAST), 200, "");
  EXPECT (post (MULTIPART, PART "\"field1\"\r\n\r\nJoe Blow\r\n" PART "\"pics\"; filename=\"file1.txt\"\r\n"
                           "Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n"
                           "file\r\n--AaB03\r\ndata\r\n" PART "empty; filename=\"\"\r\n\r\n\r\n" LAST),
          200, "field1=Joe Blow;pics f:file1.txt t:text/plain e:binary=file\r\n--AaB03\r\ndata;empty f:=");
  EXPECT (post ("multipart/form-data, boundary=\"AaB03x\"", "-x\r\r\n" PART "a\r\n\r\n1\r\n--AaB03x--more"), 200,
          "a=1");
  EXPECT (post (MULTIPART, nested), 200, "pics f:1.txt t:text/plain=one;pics f:2.gif t:image/gif e:binary=;last=1");
  EXPECT (post (MULTIPART, PART "a\r\n\r\nvalue\r\n"), 200, NULL);
  EXPECT (post (MULTIPART, PART "a\r\n\r\n\r\n--AaB03x"), 200, "a= unfinished");
  EXPECT (post (MULTIPART, PART "stop\r\n\r\n\r\n" PART "b\r\n\r\n1\r\n" LAST), 200, "stop= invalid");
  EXPECT (post (MULTIPART, PART "a\r\n\r\n\r\n--AaB03xy\r\n"), 200, "a= invalid");
  EXPECT (post (MULTIPART, "--AaB03x\r\nno field\r\n\r\n\r\n" LAST), 200, " invalid");
  EXPECT (post (MULTIPART, "--AaB03x\r\n\r\n\r\n" LAST), 200, " invalid");
}

static void
long_values (void)
{
  char body[6000], expected[6000];
  int length = sprintf (body, PART "a\r\n\r\n"), begin = sprintf (expected, "a=");

  memset (body + length, 'v', 2000);
  memset (expected + begin, 'v', 2000);
  expected[begin + 2000] = '\0';
  strcpy (body + length + 2000, "\r\n" LAST);
  EXPECT (post (MULTIPART, body), 200, expected);
}

int
main (int argc, char **argv)
{
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, receive, NULL, MHD_OPTION_END);

  is_brief = argc > 1 && strcmp (argv[1], "brief") == 0;
  port = port_of (daemon);
  urlencoded ();
  multipart ();
  long_values ();
  EXPECT (post ("text/plain", "a=1"), 200, "none");
  EXPECT (post ("multipart/form-data", LAST), 200, "none");
  EXPECT (post ("multipart/form-data; boundary=", LAST), 200, "none");
  EXPECT (ask (port, "POST /256 HTTP/1.1\r\nContent-Length: 3\r\n" END "a=1"), 200, "none");
  EXPECT (ask (port, "POST /256 HTTP/1.1\r\nContent-Type: " URLENCODED "\r\nContent-Length: 3\r\n" END "a=1"), 200, "a=1");
  MHD_stop_daemon (daemon);

  daemon = MHD_start_daemon (MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, misuse, &port, MHD_OPTION_END);
  port = port_of (daemon);
  EXPECT (post (URLENCODED, ""), 200, "ok");
  MHD_stop_daemon (daemon);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_POSTPROCESSOR) == MHD_YES);
  return 0;
}
