/* Options of a daemon: forms, limits, sockets, the logger, and starts that fail. */
#include "check.h"

static char logged[1000];

static void
log_line (void *cls, const char *format, va_list arguments)
{
  CHECK (cls == logged);
  vsnprintf (logged, sizeof (logged), format, arguments);
}

HANDLER (answer)
{
  UNUSED;
  return strcmp (url, "/no") == 0 ? MHD_NO : respond (connection, 200, cls ? cls : "ok");
}

static struct MHD_Daemon *
start_va (unsigned flags, ...)
{
  struct MHD_Daemon *daemon;
  va_list ap;

  va_start (ap, flags);
  daemon = MHD_start_daemon_va (flags, 0, NULL, NULL, answer, NULL, ap);
  va_end (ap);
  return daemon;
}

static void
serves (struct MHD_Daemon *daemon)
{
  EXPECT (ask (port_of (daemon), GET ("/")), 200, "ok");
  MHD_stop_daemon (daemon);
}

static int
listening (uint16_t *port)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  socklen_t len = sizeof (address);
  int fd = socket (AF_INET, SOCK_STREAM, 0);

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  CHECK (bind (fd, (struct sockaddr *) &address, len) == 0 && listen (fd, 9) == 0);
  CHECK (getsockname (fd, (struct sockaddr *) &address, &len) == 0);
  *port = ntohs (address.sin_port);
  return fd;
}

int
main (void)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
  struct MHD_OptionItem inner[] = { { MHD_OPTION_CONNECTION_LIMIT, 10, NULL }, { MHD_OPTION_END, 0, NULL } };
  struct MHD_OptionItem items[] = { { MHD_OPTION_ARRAY, 0, inner },
                                    { MHD_OPTION_EXTERNAL_LOGGER, (intptr_t) log_line, logged },
                                    { MHD_OPTION_SOCK_ADDR, 0, &address },
                                    { MHD_OPTION_SOCK_ADDR_LEN, sizeof (address), &address },
                                    { MHD_OPTION_END, 0, NULL },
                                    { (enum MHD_OPTION) 999, 0, NULL } };
  struct MHD_OptionItem cycle[] = { { MHD_OPTION_ARRAY, 0, NULL }, { MHD_OPTION_END, 0, NULL } };
  struct MHD_Daemon *daemon, *other;
  uint16_t port;
  int fd;
  char *text;

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  /* Nothing behind the first END is read. */
  serves (MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_END, 999, NULL));
  /* NULL is as if it was not given; an int where more is documented is taken. */
  serves (MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_NOTIFY_COMPLETED, NULL, NULL,
                            MHD_OPTION_EXTERNAL_LOGGER, NULL, NULL, MHD_OPTION_URI_LOG_CALLBACK, NULL, NULL,
                            MHD_OPTION_SOCK_ADDR, NULL, MHD_OPTION_HTTPS_KEY_PASSWORD, NULL,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, 4096, MHD_OPTION_CONNECTION_LIMIT, 5, MHD_OPTION_STRICT_FOR_CLIENT, -1,
                            MHD_OPTION_CLIENT_DISCIPLINE_LVL, -3, MHD_OPTION_SERVER_INSANITY, MHD_DSC_SANE,
                            MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_LISTEN_BACKLOG_SIZE, 3u,
                            MHD_OPTION_THREAD_POOL_SIZE, 1u, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END));
  serves (start_va (THREAD, MHD_OPTION_SOCK_ADDR_LEN, (socklen_t) sizeof (address), &address, MHD_OPTION_END));
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
  text = ask (port_of (daemon), GET ("/no"));
  CHECK (*text == '\0');
  free (text);
  /* Two daemons at once. */
  other = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, "other", MHD_OPTION_END);
  EXPECT (ask (port_of (other), GET ("/")), 200, "other");
  serves (daemon);
  CHECK (strstr (logged, "MHD_NO") != NULL && logged[strlen (logged) - 1] == '\n');
  MHD_stop_daemon (other);

  /* The program's own socket stays open, and is not shut down. */
  fd = listening (&port);
  for (int i = 0; i < 2; i++) {
    daemon = MHD_start_daemon (THREAD, 1, NULL, NULL, answer, NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
    CHECK (port_of (daemon) == port);
    CHECK (MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd == fd);
    serves (daemon);
  }
  close (fd);
  /* The socket that quiesce gives back is the caller's: it still listens. */
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
  port = port_of (daemon);
  fd = MHD_quiesce_daemon (daemon);
  CHECK (fd >= 0 && MHD_quiesce_daemon (daemon) == MHD_INVALID_SOCKET);
  MHD_stop_daemon (daemon);
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
  CHECK (port_of (daemon) == port);
  serves (daemon);
  close (fd);

  /* No socket of its own. */
  daemon = MHD_start_daemon (THREAD | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
  CHECK (MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_LISTEN_FD) == NULL);
  fd = listening (&port);
  {
    struct sockaddr_in peer;
    socklen_t len = sizeof (peer);
    int client = dial (port), server = accept (fd, (struct sockaddr *) &peer, &len);

    CHECK (MHD_add_connection (daemon, server, (struct sockaddr *) &peer, len) == MHD_YES);
    put (client, GET ("/"));
    EXPECT (rest (client, NULL), 200, "ok");
  }
  CHECK (MHD_add_connection (daemon, -1, NULL, 0) == MHD_NO);
  MHD_stop_daemon (daemon);
  close (fd);

  /* IPv6, where the machine has it. */
  daemon = MHD_start_daemon (THREAD | MHD_USE_IPv6, 0, NULL, NULL, answer, NULL, MHD_OPTION_SOCK_ADDR, &six,
                             MHD_OPTION_END);
  if (daemon != NULL)
    MHD_stop_daemon (daemon);
  daemon = MHD_start_daemon (THREAD | MHD_USE_DUAL_STACK, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
  if (daemon != NULL)
    serves (daemon);

  /* Starts that fail, each with an errno. */
#define FAILS(...) (errno = 0, MHD_start_daemon (__VA_ARGS__) == NULL && errno != 0)
  CHECK (FAILS (THREAD, 0, NULL, NULL, NULL, NULL, MHD_OPTION_END));
  CHECK (FAILS (THREAD, 0, NULL, NULL, answer, NULL, 999, MHD_OPTION_END));
  CHECK (FAILS (THREAD, 0, NULL, NULL, answer, NULL, -1, MHD_OPTION_END));
  CHECK (FAILS (THREAD | MHD_USE_TLS, 0, NULL, NULL, answer, NULL, MHD_OPTION_END));
  CHECK (FAILS (MHD_NO_FLAG, 0, NULL, NULL, answer, NULL, MHD_OPTION_THREAD_POOL_SIZE, 4u, MHD_OPTION_END));
  CHECK (FAILS (MHD_USE_THREAD_PER_CONNECTION, 0, NULL, NULL, answer, NULL, MHD_OPTION_THREAD_POOL_SIZE, 4u,
                MHD_OPTION_END));
  CHECK (FAILS (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_SOCK_ADDR_LEN, (socklen_t) 3, &address,
                MHD_OPTION_END));
  CHECK (FAILS (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_LISTEN_SOCKET, 9999, MHD_OPTION_END));
  cycle[0].ptr_value = cycle;
  CHECK (FAILS (THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_ARRAY, cycle, MHD_OPTION_END));
  fd = listening (&port);
  CHECK (FAILS (THREAD, port, NULL, NULL, answer, NULL, MHD_OPTION_END) && errno == EADDRINUSE);
  close (fd);
  CHECK (MHD_quiesce_daemon (NULL) == MHD_INVALID_SOCKET);
  CHECK (MHD_get_daemon_info (NULL, MHD_DAEMON_INFO_FLAGS) == NULL);
  CHECK (MHD_add_connection (NULL, -1, NULL, 0) == MHD_NO);
  CHECK (MHD_get_connection_info (NULL, MHD_CONNECTION_INFO_DAEMON) == NULL);
  CHECK (MHD_set_connection_option (NULL, MHD_CONNECTION_OPTION_TIMEOUT, 1u) == MHD_NO);
  MHD_suspend_connection (NULL);
  MHD_resume_connection (NULL);
  return 0;
}
