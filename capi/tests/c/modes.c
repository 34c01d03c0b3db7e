/* Every mode: many clients, keep-alive, one response for all, notifications, suspension. */
#include "check.h"

static int opened, closed, completed;

static void
on_connection (void *cls, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code)
{
  CHECK (cls == &opened && connection != NULL);
  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    CHECK (*context == NULL);
    *context = malloc (1);
    __atomic_add_fetch (&opened, 1, __ATOMIC_SEQ_CST);
  } else {
    free (*context);
    __atomic_add_fetch (&closed, 1, __ATOMIC_SEQ_CST);
  }
}

static void
on_completed (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  CHECK (cls == &completed && *req_cls == &completed && code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
  /* What was asked about the request can be asked until now. */
  CHECK (MHD_lookup_connection_value (connection, MHD_HEADER_KIND, "Host") != NULL);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_HTTP_STATUS)->http_status == 200);
  __atomic_add_fetch (&completed, 1, __ATOMIC_SEQ_CST);
}

static void *
later (void *cls)
{
  struct MHD_Connection *connection = cls;

  usleep (1000);
  CHECK (respond (connection, 200, "resumed\n") == MHD_YES);
  MHD_resume_connection (connection);
  return NULL;
}

static void *
resume (void *cls)
{
  MHD_resume_connection (cls);
  return NULL;
}

static void
start (void *(*function) (void *), void *cls)
{
  pthread_t thread;

  CHECK (pthread_create (&thread, NULL, function, cls) == 0 && pthread_detach (thread) == 0);
}

HANDLER (answer)
{
  const union MHD_ConnectionInfo *info;

  UNUSED;
  if (*req_cls == NULL) {
    *req_cls = &completed;
    if (strcmp (url, "/suspend") == 0) {
      MHD_suspend_connection (connection);
      CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_SUSPENDED)->suspended == 1);
      start (later, connection);
    }
    if (strcmp (url, "/pause") == 0) {
      MHD_suspend_connection (connection);
      start (resume, connection);
    }
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    *upload_data_size = 0;
    if (strcmp (url, "/slow") == 0) {
      MHD_suspend_connection (connection);
      start (resume, connection);
    }
    return MHD_YES;
  }
  info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  CHECK (((const struct sockaddr_in *) info->client_addr)->sin_addr.s_addr == htonl (INADDR_LOOPBACK));
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_DAEMON)->daemon != NULL);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context != NULL);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_TIMEOUT)->connection_timeout == 9);
  CHECK (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) == NULL);
  CHECK (MHD_get_connection_info (connection, (enum MHD_ConnectionInfoType) 99) == NULL);
  return MHD_queue_response (connection, 200, cls);
}

static enum MHD_Result
local_only (void *cls, const struct sockaddr *address, socklen_t len)
{
  const struct sockaddr_in *v4 = (const struct sockaddr_in *) address;

  CHECK (cls == NULL && len == sizeof (*v4) && v4->sin_family == AF_INET);
  return v4->sin_addr.s_addr == htonl (INADDR_LOOPBACK) ? MHD_YES : MHD_NO;
}

static uint16_t port;

static void *
client (void *cls)
{
  static const char *const requests[] = {
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /suspend HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /pause HTTP/1.1\r\nHost: x\r\n\r\n", "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" };
  int fd = dial (port);

  for (int i = 0; i < 20; i++) {
    const char *end = i % 5 == 1 ? "\r\n\r\nresumed\n" : "\r\n\r\nhello\n";
    char text[500];
    size_t len = 0;

    put (fd, requests[i % 5]);
    do {
      ssize_t n = recv (fd, text + len, sizeof (text) - 1 - len, 0);

      CHECK (n > 0);
      text[len += (size_t) n] = '\0';
    } while (strstr (text, end) == NULL);
    CHECK (strncmp (text, "HTTP/1.1 200 OK\r\n", 17) == 0);
  }
  close (fd);
  return cls;
}

static void
serve (unsigned flags, unsigned pool)
{
  struct MHD_Response *response = MHD_create_response_from_buffer_static (6, "hello\n");
  struct MHD_Daemon *daemon = MHD_start_daemon (
    flags | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, local_only, NULL, answer, response, MHD_OPTION_NOTIFY_CONNECTION,
    on_connection, &opened, MHD_OPTION_NOTIFY_COMPLETED, on_completed, &completed, MHD_OPTION_CONNECTION_TIMEOUT, 9u,
    pool ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, pool, MHD_OPTION_END);
  pthread_t threads[10];

  opened = closed = completed = 0;
  port = port_of (daemon);
  CHECK (MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_FLAGS)->flags & MHD_USE_ERROR_LOG);
  for (int i = 0; i < 10; i++)
    CHECK (pthread_create (&threads[i], NULL, client, NULL) == 0);
  for (int i = 0; i < 10; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  MHD_stop_daemon (daemon);
  MHD_destroy_response (response);
  CHECK (opened == 10 && closed == 10 && completed == 200);
}

int
main (void)
{
  serve (MHD_USE_INTERNAL_POLLING_THREAD, 0);
  serve (MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TURBO, 0);
  serve (MHD_USE_AUTO_INTERNAL_THREAD, 4);
  serve (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0);
  /* Four programs of Debian do this. */
  serve (MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0);
  return 0;
}
