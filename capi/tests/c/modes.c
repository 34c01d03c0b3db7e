/* Every mode: many clients, keep-alive, one response for all, notifications, suspension. */
#include "check.h"
#include <sys/epoll.h>

static int opened, closed, completed;

static void
on_connection (void *cls, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code)
{
  CHECK (cls == &opened && connection != NULL);
  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    CHECK (*context == NULL);
    /* Its socket is known. */
    CHECK (fcntl (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, F_GETFD) >= 0);
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
  struct sockaddr_in peer;
  socklen_t len = sizeof (peer);

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
  CHECK (getpeername (MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
                      (struct sockaddr *) &peer, &len) == 0);
  CHECK (peer.sin_port == ((const struct sockaddr_in *) info->client_addr)->sin_port);
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

static int done;

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
  __atomic_add_fetch (&done, 1, __ATOMIC_SEQ_CST);
  return cls;
}

/* Ways to run a daemon without threads. */
enum loop { NONE, SELECT, EPOLL, WAIT };

static void
run_select (struct MHD_Daemon *daemon)
{
  fd_set read, write, except;
  MHD_UNSIGNED_LONG_LONG left;
  struct timeval timeout = { .tv_sec = 0, .tv_usec = 50000 };
  int max = 0;

  FD_ZERO (&read);
  FD_ZERO (&write);
  FD_ZERO (&except);
  CHECK (MHD_get_fdset (daemon, &read, &write, &except, &max) == MHD_YES && max > 0);
  CHECK (MHD_get_fdset2 (daemon, &read, &write, &except, NULL, FD_SETSIZE) == MHD_YES);
  CHECK (MHD_get_fdset2 (daemon, &read, &write, &except, &max, 1) == MHD_NO);
  CHECK (MHD_get_fdset (daemon, NULL, NULL, NULL, NULL) == MHD_NO);
  if (MHD_get_timeout (daemon, &left) == MHD_YES && left < 50)
    timeout.tv_usec = (suseconds_t) left * 1000;
  CHECK (select (max + 1, &read, &write, &except, &timeout) >= 0);
  CHECK (MHD_run_from_select (daemon, &read, &write, &except) == MHD_YES);
}

static void
run_epoll (struct MHD_Daemon *daemon)
{
  struct epoll_event event = { .events = EPOLLIN };
  int own = MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, outer = epoll_create1 (0);
  int64_t left = MHD_get_timeout64s (daemon);

  CHECK (MHD_get_timeout_i (daemon) <= left || left < 0);
  CHECK (epoll_ctl (outer, EPOLL_CTL_ADD, own, &event) == 0);
  CHECK (epoll_wait (outer, &event, 1, left < 0 || left > 50 ? 50 : (int) left) >= 0);
  close (outer);
  CHECK (MHD_run (daemon) == MHD_YES);
}

static void
run (struct MHD_Daemon *daemon, enum loop loop)
{
  while (__atomic_load_n (&done, __ATOMIC_SEQ_CST) < 10)
    switch (loop) {
    case SELECT:
      run_select (daemon);
      break;
    case EPOLL:
      run_epoll (daemon);
      break;
    case WAIT:
      CHECK (MHD_run_wait (daemon, 50) == MHD_YES);
      break;
    default:
      CHECK (MHD_run (daemon) == MHD_NO);
      CHECK (MHD_get_timeout64s (daemon) == -1);
      return;
    }
}

static void
serve (unsigned flags, unsigned pool, enum loop loop)
{
  struct MHD_Response *response = MHD_create_response_from_buffer_static (6, "hello\n");
  struct MHD_Daemon *daemon = MHD_start_daemon (
    flags | (loop ? MHD_USE_ERROR_LOG : 0) | MHD_ALLOW_SUSPEND_RESUME, 0, local_only, NULL, answer, response,
    MHD_OPTION_NOTIFY_CONNECTION, on_connection, &opened, MHD_OPTION_NOTIFY_COMPLETED, on_completed, &completed, MHD_OPTION_CONNECTION_TIMEOUT, 9u,
    pool ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, pool, MHD_OPTION_END);
  pthread_t threads[10];

  opened = closed = completed = done = 0;
  port = port_of (daemon);
  CHECK (MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_FLAGS)->flags & MHD_ALLOW_SUSPEND_RESUME);
  for (int i = 0; i < 10; i++)
    CHECK (pthread_create (&threads[i], NULL, client, NULL) == 0);
  run (daemon, loop);
  for (int i = 0; i < 10; i++)
    CHECK (pthread_join (threads[i], NULL) == 0);
  MHD_stop_daemon (daemon);
  MHD_destroy_response (response);
  CHECK (opened == 10 && closed == 10 && completed == 200);
}

int
main (void)
{
  serve (MHD_USE_INTERNAL_POLLING_THREAD, 0, NONE);
  serve (MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TURBO, 0, NONE);
  serve (MHD_USE_AUTO_INTERNAL_THREAD, 4, NONE);
  serve (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NONE);
  /* Four programs of Debian do this. */
  serve (MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0, NONE);
  serve (MHD_NO_FLAG, 0, SELECT);
  serve (MHD_USE_EPOLL, 0, EPOLL);
  serve (MHD_USE_AUTO, 0, WAIT);
  return 0;
}
