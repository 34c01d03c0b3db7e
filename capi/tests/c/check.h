/* What the test programs share: checks, and a client. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Ends the program if a condition does not hold. */
#define CHECK(condition) \
  ((condition) ? (void) 0 : (fprintf (stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), exit (1)))

#define THREAD (MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG)

/* Nothing here waits longer than this. */
#define PATIENCE 20

static inline uint16_t
port_of (struct MHD_Daemon *daemon)
{
  CHECK (daemon != NULL);
  return MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

static inline int
dial (uint16_t port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (port) };
  struct timeval patience = { .tv_sec = PATIENCE };
  int fd = socket (AF_INET, SOCK_STREAM, 0);

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  CHECK (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof (address)) == 0);
  CHECK (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof (patience)) == 0);
  return fd;
}

static inline void
put (int fd, const char *text)
{
  size_t len = strlen (text);

  CHECK (send (fd, text, len, MSG_NOSIGNAL) == (ssize_t) len);
}

/* Reads to the end of the stream. Returns a string to be freed; a reset ends it, too. */
static inline char *
rest (int fd, size_t *length)
{
  size_t len = 0, room = 1 << 16;
  char *text = malloc (room + 1);

  for (;;) {
    ssize_t n = recv (fd, text + len, room - len, 0);

    CHECK (n >= 0 || errno == ECONNRESET);
    if (n <= 0)
      break;
    len += (size_t) n;
    if (len == room)
      text = realloc (text, (room *= 2) + 1);
  }
  text[len] = '\0';
  if (length != NULL)
    *length = len;
  close (fd);
  return text;
}

/* Sends a request on a connection of its own, and returns the whole response. */
static inline char *
ask (uint16_t port, const char *request)
{
  int fd = dial (port);

  put (fd, request);
  return rest (fd, NULL);
}

#define END "Host: localhost\r\nConnection: close\r\n\r\n"
#define GET(target) "GET " target " HTTP/1.1\r\n" END

static inline const char *
body_of (const char *response)
{
  const char *end = strstr (response, "\r\n\r\n");

  CHECK (end != NULL);
  return end + 4;
}

/* Checks the status and the body of a response, and frees it. */
static inline void
expect_at (int line, char *response, int status, const char *body)
{
  if (strlen (response) < 12 || atoi (response + 9) != status || (body && strcmp (body_of (response), body) != 0)) {
    fprintf (stderr, "line %d: expected %d and \"%s\", got \"%.2000s\"\n", line, status, body ? body : "…", response);
    exit (1);
  }
  free (response);
}
#define EXPECT(response, status, body) expect_at (__LINE__, response, status, body)

/* Queues a text. */
static inline enum MHD_Result
respond (struct MHD_Connection *connection, unsigned status, const char *text)
{
  struct MHD_Response *response =
    MHD_create_response_from_buffer (strlen (text), (void *) text, MHD_RESPMEM_MUST_COPY);
  enum MHD_Result result = MHD_queue_response (connection, status, response);

  MHD_destroy_response (response);
  return result;
}

/* Waits for a semaphore; ends the program if that takes too long. */
static inline void
await_at (int line, sem_t *semaphore)
{
  struct timespec until;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE;
  while (sem_timedwait (semaphore, &until) != 0)
    if (errno != EINTR) {
      fprintf (stderr, "line %d: it did not happen\n", line);
      exit (1);
    }
}
#define AWAIT(semaphore) await_at (__LINE__, semaphore)

#define HANDLER(name) \
  static enum MHD_Result name (void *cls, struct MHD_Connection *connection, const char *url, const char *method, \
                               const char *version, const char *upload_data, size_t *upload_data_size, void **req_cls)
#define UNUSED (void) cls, (void) connection, (void) url, (void) method, (void) version, (void) upload_data, \
  (void) upload_data_size, (void) req_cls
