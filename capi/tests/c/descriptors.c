/* Descriptors above FD_SETSIZE: a program that waits by select serves them too, since it waits for one descriptor only. */
#include "check.h"
#include <sys/resource.h>
#include <sys/select.h>

#define CLIENTS 20

static volatile int done;
static uint16_t port;

HANDLER (answer)
{
  const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_FD);

  UNUSED;
  CHECK (info != NULL && info->connect_fd >= FD_SETSIZE);
  return respond (connection, 200, "ok\n");
}

static void *
clients (void *cls)
{
  int i;

  (void) cls;
  for (i = 0; i < CLIENTS; i++)
    EXPECT (ask (port, GET ("/")), 200, "ok\n");
  done = 1;
  return NULL;
}

int
main (void)
{
  struct MHD_Daemon *daemon = MHD_start_daemon (MHD_USE_ERROR_LOG, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
  struct rlimit limit;
  pthread_t thread;
  int fd;

  port = port_of (daemon);
  CHECK (getrlimit (RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
  if (limit.rlim_cur < FD_SETSIZE + 100 || setrlimit (RLIMIT_NOFILE, &limit) != 0) {
    puts ("skipped: the system allows too few descriptors");
    return 0;
  }
  do
    CHECK ((fd = open ("/dev/null", O_RDONLY)) >= 0);
  while (fd < FD_SETSIZE);
  CHECK (pthread_create (&thread, NULL, clients, NULL) == 0);
  while (! done) {
    struct timeval timeout = { .tv_usec = 20 * 1000 };
    fd_set reads, writes, excepts;
    int max = -1;

    FD_ZERO (&reads);
    FD_ZERO (&writes);
    FD_ZERO (&excepts);
    CHECK (MHD_get_fdset (daemon, &reads, &writes, &excepts, &max) == MHD_YES && max < FD_SETSIZE);
    CHECK (select (max + 1, &reads, &writes, &excepts, &timeout) >= 0);
    CHECK (MHD_run_from_select (daemon, &reads, &writes, &excepts) == MHD_YES);
  }
  pthread_join (thread, NULL);
  MHD_stop_daemon (daemon);
  return 0;
}
