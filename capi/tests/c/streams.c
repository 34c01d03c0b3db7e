/* Bodies that are read piece by piece: by callbacks, from files and pipes. */
#include "check.h"

static int released, pieces;
static struct MHD_Connection *reading;

static void
count (void *cls)
{
  (void) cls;
  released++;
}

/* Ten pieces of ten bytes, each after a call without one. */
static ssize_t
digits (void *cls, uint64_t pos, char *buf, size_t max)
{
  static int again;

  CHECK (cls == &pieces && max >= 10);
  if (pos == 100)
    return MHD_CONTENT_READER_END_OF_STREAM;
  if ((again = !again))
    return 0;
  memset (buf, '0' + (int) (pos / 10), 10);
  return 10;
}

static ssize_t
broken (void *cls, uint64_t pos, char *buf, size_t max)
{
  (void) cls, (void) max;
  if (pos > 0)
    return MHD_CONTENT_READER_END_WITH_ERROR;
  *buf = 'x';
  return 1;
}

static void *
resume (void *cls)
{
  usleep (1000);
  MHD_resume_connection (cls);
  return NULL;
}

static ssize_t
suspending (void *cls, uint64_t pos, char *buf, size_t max)
{
  static int again;
  pthread_t thread;

  (void) cls, (void) max;
  if (pos == 3)
    return MHD_CONTENT_READER_END_OF_STREAM;
  if ((again = !again)) {
    MHD_suspend_connection (reading);
    CHECK (pthread_create (&thread, NULL, resume, reading) == 0 && pthread_detach (thread) == 0);
    return 0;
  }
  *buf = 's';
  return 1;
}

static sem_t blocked, go;

/* Blocks until another thread posts, as in a program that waits for frames of video. */
static ssize_t
blocking (void *cls, uint64_t pos, char *buf, size_t max)
{
  (void) cls, (void) max;
  if (pos > 0)
    return MHD_CONTENT_READER_END_OF_STREAM;
  sem_post (&blocked);
  AWAIT (&go);
  usleep (100 * 1000); /* The stop has begun by then. */
  *buf = 'b';
  return 1;
}

HANDLER (answer)
{
  struct MHD_Response *response = NULL;
  int ends[2], fd;
  char name[] = "/tmp/uncork-capi-XXXXXX";

  UNUSED;
  reading = connection;
  if (strcmp (url, "/chunked") == 0) {
    response = MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, 10, digits, &pieces, count);
    MHD_add_response_footer (response, "X-Sum", "100");
  } else if (strcmp (url, "/sized") == 0)
    response = MHD_create_response_from_callback (100, 32, digits, &pieces, count);
  else if (strcmp (url, "/closing") == 0) {
    response = MHD_create_response_from_callback (100, 32, digits, &pieces, count);
    MHD_add_response_header (response, "Connection", "close");
  } else if (strcmp (url, "/short") == 0)
    response = MHD_create_response_from_callback (200, 32, digits, &pieces, count);
  else if (strcmp (url, "/broken") == 0)
    response = MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, 10, broken, NULL, count);
  else if (strcmp (url, "/suspending") == 0)
    response = MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, 10, suspending, NULL, count);
  else if (strcmp (url, "/blocking") == 0)
    response = MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, 10, blocking, NULL, count);
  else if (strcmp (url, "/pipe") == 0) {
    CHECK (pipe (ends) == 0 && write (ends[1], "piped", 5) == 5);
    close (ends[1]);
    response = MHD_create_response_from_pipe (ends[0]);
  } else {
    fd = mkstemp (name);
    CHECK (fd >= 0 && unlink (name) == 0 && write (fd, "0123456789", 10) == 10);
    if (strcmp (url, "/file") == 0)
      response = MHD_create_response_from_fd (10, fd);
    else if (strcmp (url, "/file64") == 0)
      response = MHD_create_response_from_fd64 (5, fd);
    else if (strcmp (url, "/part") == 0)
      response = MHD_create_response_from_fd_at_offset64 (3, fd, 4);
    else
      response = MHD_create_response_from_fd_at_offset (3, fd, 7);
  }
  CHECK (MHD_queue_response (connection, 200, response) == MHD_YES);
  MHD_destroy_response (response);
  return MHD_YES;
}

static void
in_mode (unsigned flags)
{
  char tens[101] = "", *text;
  struct MHD_Daemon *daemon = MHD_start_daemon (flags | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                                answer, NULL, MHD_OPTION_END);
  uint16_t port = port_of (daemon);
  int client, fd;

  CHECK (sem_init (&blocked, 0, 0) == 0 && sem_init (&go, 0, 0) == 0);
  released = 0;
  for (int i = 0; i < 100; i++)
    tens[i] = (char) ('0' + i / 10);
  EXPECT (ask (port, GET ("/sized")), 200, tens);
  text = ask (port, "GET /closing HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK (strstr (text, "\r\nConnection: close\r\n") != NULL);
  EXPECT (text, 200, tens);
  text = ask (port, GET ("/chunked"));
  CHECK (strstr (text, "Transfer-Encoding: chunked") != NULL && strstr (text, "\r\nX-Sum: 100\r\n\r\n") != NULL);
  CHECK (strstr (text, "a\r\n0000000000\r\n") != NULL || strstr (text, "0000000000") != NULL);
  free (text);
  EXPECT (ask (port, "GET /chunked HTTP/1.0\r\n\r\n"), 200, tens);
  /* What is not complete does not look complete. */
  text = ask (port, GET ("/short"));
  CHECK (strlen (text) == 0 || strlen (body_of (text)) < 200);
  free (text);
  text = ask (port, GET ("/broken"));
  CHECK (strstr (text, "\r\n0\r\n\r\n") == NULL);
  free (text);
  EXPECT (ask (port, "GET /suspending HTTP/1.0\r\n\r\n"), 200, "sss");
  EXPECT (ask (port, "GET /pipe HTTP/1.0\r\n\r\n"), 200, "piped");
  EXPECT (ask (port, GET ("/file")), 200, "0123456789");
  EXPECT (ask (port, GET ("/file64")), 200, "01234");
  EXPECT (ask (port, GET ("/part")), 200, "456");
  EXPECT (ask (port, GET ("/part32")), 200, "789");
  EXPECT (ask (port, "HEAD /sized HTTP/1.1\r\n" END), 200, "");
  /* A reader that blocks, woken by another thread after the socket was given back: the stop waits for it. */
  client = dial (port);
  put (client, GET ("/blocking"));
  AWAIT (&blocked);
  if (flags & MHD_USE_THREAD_PER_CONNECTION) {
    fd = MHD_quiesce_daemon (daemon);
    CHECK (fd >= 0 && close (fd) == 0);
  }
  sem_post (&go);
  MHD_stop_daemon (daemon);
  close (client);
  CHECK (released == 9);
}

int
main (void)
{
  in_mode (MHD_USE_INTERNAL_POLLING_THREAD);
  in_mode (MHD_USE_THREAD_PER_CONNECTION);
  return 0;
}
