/* Programs that fork: a daemon of the child, and a child that closes its copies of the parent's descriptors. */
#include "check.h"
#include <sys/wait.h>

HANDLER (answer)
{
  UNUSED;
  return respond (connection, 200, cls);
}

static struct MHD_Daemon *
serve (unsigned flags, const char *text)
{
  return MHD_start_daemon (flags, 0, NULL, NULL, answer, (void *) text, MHD_OPTION_END);
}

static void
expect_success (pid_t child)
{
  int status;

  CHECK (child > 0 && waitpid (child, &status, 0) == child);
  CHECK (WIFEXITED (status) && WEXITSTATUS (status) == 0);
}

static void
in_mode (unsigned flags)
{
  struct MHD_Daemon *daemon = serve (flags, "parent\n");
  uint16_t port = port_of (daemon);
  int idle = dial (port), fd;
  char byte;
  pid_t child;

  put (idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK (recv (idle, &byte, 1, 0) == 1 && byte == 'H');
  /* A child that closes its copies. */
  child = fork ();
  if (child == 0) {
    for (fd = 3; fd < 256; fd++)
      close (fd);
    _exit (0);
  }
  expect_success (child);
  EXPECT (ask (port, GET ("/")), 200, "parent\n");
  /* A child with a daemon of its own, while the parent's runs. */
  child = fork ();
  if (child == 0) {
    struct MHD_Daemon *own = serve (flags, "child\n");

    EXPECT (ask (port_of (own), GET ("/")), 200, "child\n");
    EXPECT (ask (port, GET ("/")), 200, "parent\n");
    MHD_stop_daemon (own);
    _exit (0);
  }
  expect_success (child);
  EXPECT (ask (port, GET ("/")), 200, "parent\n");
  /* The connection from before is still served. */
  put (idle, GET ("/"));
  free (rest (idle, NULL));
  MHD_stop_daemon (daemon);
}

int
main (void)
{
  in_mode (THREAD);
  in_mode (THREAD | MHD_USE_EPOLL);
  in_mode (THREAD | MHD_USE_THREAD_PER_CONNECTION);
  return 0;
}
