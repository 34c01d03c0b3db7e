/* A page with a form: the files that a browser or curl sends are stored in a directory.
 *
 *   form_upload 127.0.0.1:8080 DIRECTORY
 *   curl -F file=@README.md http://127.0.0.1:8080/
 *
 * Each connection has a thread, which may block while it writes. The post processor passes on a file in pieces, so
 * memory does not grow with it. A file that has not arrived completely is removed, and none is replaced.
 * It ends at SIGTERM or SIGINT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char page[] = "<!doctype html>\n"
                           "<html lang=\"en\"><meta charset=\"utf-8\"><title>Upload</title>\n"
                           "<form method=\"post\" enctype=\"multipart/form-data\">\n"
                           "<input type=\"file\" name=\"file\" multiple required> <button>Send</button>\n"
                           "</form>\n";

/* What has arrived of a form. */
struct upload {
  struct MHD_PostProcessor *processor;
  const char *directory;
  /* The file that is written, or -1; and its path. */
  int fd;
  char path[4096];
  unsigned files;
  /* The status if the form cannot be stored, or 0. */
  unsigned failure;
};

/* Ends the current file. It stays only if it is complete. */
static void
end_file (struct upload *upload, int is_complete)
{
  if (upload->fd < 0)
    return;
  if (close (upload->fd) != 0 && upload->failure == 0)
    upload->failure = MHD_HTTP_INTERNAL_SERVER_ERROR;
  upload->fd = -1;
  if (is_complete && upload->failure == 0)
    upload->files++;
  else
    unlink (upload->path);
}

/* Returns the status of a failure, or 0. */
static unsigned
begin_file (struct upload *upload, const char *name)
{
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.()";
  int length;

  /* The name must not lead out of the directory, and must not hide the file. */
  if (*name == '.' || *name == '\0' || name[strspn (name, allowed)] != '\0')
    return MHD_HTTP_BAD_REQUEST;
  length = snprintf (upload->path, sizeof (upload->path), "%s/%s", upload->directory, name);
  if (length < 0 || (size_t) length >= sizeof (upload->path))
    return MHD_HTTP_BAD_REQUEST;
  upload->fd = open (upload->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (upload->fd >= 0)
    return 0;
  return errno == EEXIST ? MHD_HTTP_CONFLICT : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static enum MHD_Result
store (void *cls, enum MHD_ValueKind kind, const char *key, const char *filename, const char *content_type,
       const char *transfer_encoding, const char *data, uint64_t off, size_t size)
{
  struct upload *upload = cls;

  (void) kind, (void) key, (void) content_type, (void) transfer_encoding;
  if (off == 0) {
    /* The field before this one has ended. */
    end_file (upload, 1);
    /* A browser sends an empty name if no file was chosen. */
    if (filename == NULL || *filename == '\0')
      return MHD_YES;
    upload->failure = begin_file (upload, filename);
  }
  while (upload->failure == 0 && upload->fd >= 0 && size > 0) {
    ssize_t written = write (upload->fd, data, size);

    if (written < 0 && errno != EINTR)
      upload->failure = MHD_HTTP_INTERNAL_SERVER_ERROR;
    if (written > 0) {
      data += written;
      size -= (size_t) written;
    }
  }
  return upload->failure == 0 ? MHD_YES : MHD_NO;
}

static enum MHD_Result
respond (struct MHD_Connection *connection, unsigned status, const char *type, const char *text)
{
  struct MHD_Response *response = MHD_create_response_from_buffer_copy (strlen (text), text);
  enum MHD_Result result;

  MHD_add_response_header (response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
    MHD_add_response_header (response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD, POST");
  result = MHD_queue_response (connection, status, response);
  MHD_destroy_response (response);
  return result;
}

/* Responds to a form that has arrived. */
static enum MHD_Result
stored (struct MHD_Connection *connection, struct upload *upload)
{
  char text[64];
  /* The last file is complete if the form is. */
  int is_valid = MHD_destroy_post_processor (upload->processor) == MHD_YES;

  upload->processor = NULL;
  end_file (upload, is_valid);
  if (!is_valid && upload->failure == 0)
    upload->failure = MHD_HTTP_BAD_REQUEST;
  if (upload->failure == MHD_HTTP_CONFLICT)
    return respond (connection, MHD_HTTP_CONFLICT, "text/plain", "there is a file of that name\n");
  if (upload->failure != 0)
    return respond (connection, upload->failure, "text/plain", "cannot store the form\n");
  snprintf (text, sizeof (text), "stored %u files\n", upload->files);
  return respond (connection, MHD_HTTP_CREATED, "text/plain", text);
}

static enum MHD_Result
handle (void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
        const char *upload_data, size_t *upload_data_size, void **req_cls)
{
  struct upload *upload = *req_cls;

  (void) version;
  if (upload != NULL) {
    if (*upload_data_size == 0)
      return stored (connection, upload);
    /* After a failure the rest of the form is read, and dropped. */
    MHD_post_process (upload->processor, upload_data, *upload_data_size);
    *upload_data_size = 0;
    return MHD_YES;
  }
  if (strcmp (url, "/") != 0)
    return respond (connection, MHD_HTTP_NOT_FOUND, "text/plain", "not found\n");
  if (strcmp (method, "GET") == 0 || strcmp (method, "HEAD") == 0)
    return respond (connection, MHD_HTTP_OK, "text/html; charset=utf-8", page);
  if (strcmp (method, "POST") != 0)
    return respond (connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "expected GET or POST\n");
  upload = calloc (1, sizeof (*upload));
  if (upload == NULL)
    return MHD_NO;
  upload->directory = cls;
  upload->fd = -1;
  upload->processor = MHD_create_post_processor (connection, 64 * 1024, store, upload);
  if (upload->processor == NULL) {
    free (upload);
    return respond (connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "text/plain", "expected a form\n");
  }
  *req_cls = upload;
  return MHD_YES;
}

/* Called for each request, however it ends: the client may have disconnected. */
static void
ended (void *cls, struct MHD_Connection *connection, void **req_cls, enum MHD_RequestTerminationCode code)
{
  struct upload *upload = *req_cls;

  (void) cls, (void) connection, (void) code;
  if (upload == NULL)
    return;
  MHD_destroy_post_processor (upload->processor);
  end_file (upload, 0);
  free (upload);
  *req_cls = NULL;
}

int
main (int argc, char **argv)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  char *colon = argc == 3 ? strrchr (argv[1], ':') : NULL;
  struct MHD_Daemon *daemon;
  sigset_t signals;
  int signal;

  if (colon == NULL || access (argv[2], W_OK) != 0) {
    fprintf (stderr, "usage: %s ADDRESS:PORT DIRECTORY\n", argv[0]);
    return 2;
  }
  *colon = '\0';
  address.sin_port = htons ((uint16_t) atoi (colon + 1));
  if (inet_pton (AF_INET, argv[1], &address.sin_addr) != 1) {
    fprintf (stderr, "invalid address %s: expected one of IPv4\n", argv[1]);
    return 2;
  }
  sigemptyset (&signals);
  sigaddset (&signals, SIGTERM);
  sigaddset (&signals, SIGINT);
  /* Before the daemon starts its threads, which inherit the mask. */
  sigprocmask (SIG_BLOCK, &signals, NULL);
  daemon = MHD_start_daemon (MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG, 0,
                             NULL, NULL, handle, argv[2], MHD_OPTION_SOCK_ADDR, &address,
                             MHD_OPTION_NOTIFY_COMPLETED, ended, NULL, MHD_OPTION_END);
  if (daemon == NULL)
    return 1;
  printf ("listening on http://%s:%u/\n", argv[1], (unsigned) MHD_get_daemon_info (daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
  fflush (stdout);
  sigwait (&signals, &signal);
  MHD_stop_daemon (daemon);
  return 0;
}
