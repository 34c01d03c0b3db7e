/* Digest authentication: every function with every algorithm, every result, challenges, and the options of a daemon. */
#include "credentials.h"

/* What the handler is to do, and what came of it. */
static struct {
  unsigned timeout;
  uint32_t max_nc;
  enum MHD_DigestAuthMultiQOP qop;
  enum MHD_DigestAuthMultiAlgo3 algo;
  const char *opaque, *domain;
  int userhash, utf8;
  /* With the older functions: which. */
  enum MHD_DigestAuthAlgorithm older;
  int form;
  int result;
} set;

static int
check (struct MHD_Connection *connection)
{
  uint8_t digest[32];
  enum MHD_DigestAuthAlgo3 algo = MHD_DIGEST_AUTH_ALGO3_MD5;

  if (set.form % 2 == 1) {
    /* The form with an algorithm of 1.0 is tried with one at a time. */
    if (set.form == 1)
      algo = (enum MHD_DigestAuthAlgo3) set.algo;
    else if (set.form == 3 && set.older == MHD_DIGEST_ALG_SHA256)
      algo = MHD_DIGEST_AUTH_ALGO3_SHA256;
    CHECK (MHD_digest_auth_calc_userdigest (algo, USER, REALM, PASSWORD, digest, sizeof (digest)) == MHD_YES);
  }
  switch (set.form) {
  case 0:
    return MHD_digest_auth_check3 (connection, REALM, USER, PASSWORD, set.timeout, set.max_nc, set.qop, set.algo);
  case 1:
    return MHD_digest_auth_check_digest3 (connection, REALM, USER, digest, MHD_digest_get_hash_size (algo), set.timeout,
                                          set.max_nc, set.qop, set.algo);
  case 2:
    return MHD_digest_auth_check2 (connection, REALM, USER, PASSWORD, set.timeout, set.older);
  case 3:
    return MHD_digest_auth_check_digest2 (connection, REALM, USER, digest, MHD_digest_get_hash_size (algo), set.timeout,
                                          set.older);
  case 4:
    return MHD_digest_auth_check (connection, REALM, USER, PASSWORD, set.timeout);
  default:
    return MHD_digest_auth_check_digest (connection, REALM, USER, digest, set.timeout);
  }
}

HANDLER (digest)
{
  struct MHD_Response *response;
  enum MHD_Result result;
  int stale;

  UNUSED;
  /* With a body: at its end. */
  if (*method == 'P' && *req_cls == NULL) {
    *req_cls = &set;
    return MHD_YES;
  }
  if (*upload_data_size > 0) {
    *upload_data_size = 0;
    return MHD_YES;
  }
  set.result = check (connection);
  if (set.result == MHD_DAUTH_OK)
    return respond (connection, 200, "welcome");
  stale = set.form < 2 ? set.result == MHD_DAUTH_NONCE_STALE : set.result == MHD_INVALID_NONCE;
  response = text ("denied");
  if (set.form < 2)
    result = MHD_queue_auth_required_response3 (connection, REALM, set.opaque, set.domain, response, stale, set.qop,
                                                set.algo, set.userhash, set.utf8);
  else if (set.form < 4)
    result = MHD_queue_auth_fail_response2 (connection, REALM, set.opaque, response, stale, set.older);
  else
    result = MHD_queue_auth_fail_response (connection, REALM, set.opaque, response, stale);
  MHD_destroy_response (response);
  return result;
}

/* Asks for a nonce. */
static char *
nonce_of (uint16_t port)
{
  char *response = ask (port, GET ("/a%20b?c")), *nonce = parameter (response, " nonce=");

  CHECK (strlen (nonce) >= 48 && strstr (response, "stale") == NULL);
  EXPECT (response, 401, "denied");
  return nonce;
}

#define CLIENT(algorithm, given) { \
  .algo = algorithm, .name = USER, .realm = REALM, .password = PASSWORD, .method = "GET", .uri = "/a%20b?c", \
  .nonce = given, .nc = "00000001", .cnonce = "0a4f113b", .qop = "auth", .user = "username=\"" USER "\"" }

/* Sends the request of a client, and checks the result. */
static void
expect_result (int line, uint16_t port, const struct client *it, int expected)
{
  char *field = field_of (it), *response;

  set.result = 99;
  response = ask_with (port, it->method, it->uri, field);
  if (set.result != expected) {
    fprintf (stderr, "line %d: expected %d, got %d: %s%s\n", line, expected, set.result, field, response);
    exit (1);
  }
  CHECK (count (response, ", stale=true") == (set.form < 2 ? expected == MHD_DAUTH_NONCE_STALE : expected == -1));
  expect_at (line, response, expected == MHD_DAUTH_OK ? 200 : 401, expected == MHD_DAUTH_OK ? "welcome" : "denied");
  free (field);
}
#define RESULT(it, expected) expect_result (__LINE__, port, it, expected)

/* Every form with every algorithm that it has. */
static void
test_forms (uint16_t port)
{
  static const enum MHD_DigestAuthAlgo3 algos[] = { MHD_DIGEST_AUTH_ALGO3_MD5, MHD_DIGEST_AUTH_ALGO3_SHA256,
                                                    MHD_DIGEST_AUTH_ALGO3_SHA512_256 };

  for (set.form = 0; set.form < 6; set.form++)
    for (int i = 0; i < (set.form < 2 ? 3 : set.form < 4 ? 2 : 1); i++) {
      struct client it = CLIENT (algos[i], NULL), other;

      set.algo = (enum MHD_DigestAuthMultiAlgo3) algos[i];
      set.qop = MHD_DIGEST_AUTH_MULT_QOP_AUTH;
      set.older = i == 0 ? MHD_DIGEST_ALG_MD5 : MHD_DIGEST_ALG_SHA256;
      it.nonce = nonce_of (port);
      RESULT (&it, MHD_DAUTH_OK);
      /* A replay; then the next use. */
      RESULT (&it, set.form < 2 ? MHD_DAUTH_NONCE_STALE : MHD_INVALID_NONCE);
      it.nc = "00000002";
      RESULT (&it, MHD_DAUTH_OK);
      it.nc = "00000003";
      other = it;
      other.password = "wrong";
      RESULT (&other, set.form < 2 ? MHD_DAUTH_RESPONSE_WRONG : MHD_NO);
      other = it;
      other.user = "username=\"other\"";
      RESULT (&other, set.form < 2 ? MHD_DAUTH_WRONG_USERNAME : MHD_NO);
      other = it;
      other.nonce = "0123456789abcdef0123456789abcdef0123456789abcdef";
      RESULT (&other, set.form < 2 ? MHD_DAUTH_NONCE_WRONG : MHD_INVALID_NONCE);
      other = it;
      other.qop = NULL;
      /* The older functions accept clients without qop, with a nonce of their own. */
      other.nonce = nonce_of (port);
      RESULT (&other, set.form < 2 ? MHD_DAUTH_WRONG_QOP : MHD_DAUTH_OK);
      RESULT (&other, set.form < 2 ? MHD_DAUTH_WRONG_QOP : MHD_INVALID_NONCE);
      /* A request with a body, checked at its end. */
      it.method = "POST";
      RESULT (&it, MHD_DAUTH_OK);
    }
  set.form = 0;
}

static void
test_results (uint16_t port)
{
  struct client it = CLIENT (MHD_DIGEST_AUTH_ALGO3_SHA256, NULL), other;
  char *field, *response, *user;

  set.form = 0;
  set.qop = MHD_DIGEST_AUTH_MULT_QOP_AUTH_ANY;
  set.algo = MHD_DIGEST_AUTH_MULT_ALGO3_ANY;
  it.nonce = nonce_of (port);
  /* Names in other forms. */
  it.user = "username*=UTF-8''J%C3%A4s%c3%b8n%20Doe";
  RESULT (&it, MHD_DAUTH_OK);
  it.nc = "00000002";
  user = malloc (200);
  it.user = user;
  field = hash (it.algo, USER, REALM);
  snprintf (user, 200, "username=\"%s\", userhash=true", field);
  RESULT (&it, MHD_DAUTH_OK);
  it.nc = "00000003";
  snprintf (user, 200, "username=\"%s\", username*=UTF-8''a", USER);
  RESULT (&it, MHD_DAUTH_WRONG_HEADER);
  snprintf (user, 200, "userhash=false");
  RESULT (&it, MHD_DAUTH_WRONG_HEADER);
  it.user = "username=\"" USER "\"";
  free (field);
  free (user);
  /* The target: of another request, and of no request. */
  field = field_of (&it);
  free (ask_with (port, "GET", "/a%20b?d", field));
  CHECK (set.result == MHD_DAUTH_WRONG_URI);
  free (ask_with (port, "HEAD", "/a%20b?c", field));
  CHECK (set.result == MHD_DAUTH_RESPONSE_WRONG);
  free (field);
  other = it;
  other.qop = "auth-int";
  RESULT (&other, MHD_DAUTH_WRONG_QOP);
  /* What is not allowed. */
  set.algo = MHD_DIGEST_AUTH_MULT_ALGO3_MD5;
  RESULT (&it, MHD_DAUTH_WRONG_ALGO);
  set.algo = MHD_DIGEST_AUTH_MULT_ALGO3_ANY;
  set.max_nc = 2;
  RESULT (&it, MHD_DAUTH_NONCE_STALE);
  set.max_nc = 0;
  RESULT (&it, MHD_DAUTH_OK);
  free (ask_with (port, "GET", "/", "Authorization: Digest realm=x\r\n"));
  CHECK (set.result == MHD_DAUTH_WRONG_HEADER);
  free (ask_with (port, "GET", "/", "Authorization: Basic QTpC\r\n"));
  CHECK (set.result == MHD_DAUTH_WRONG_HEADER);
  field = field_of (&it);
  user = malloc (4000);
  snprintf (user, 4000, "%s%s", field, field);
  free (ask_with (port, "GET", "/a%20b?c", user));
  CHECK (set.result == MHD_DAUTH_WRONG_HEADER);
  free (user);
  free (field);

  /* Challenges. */
  set.opaque = "o\"p";
  set.domain = "/a /b";
  set.userhash = set.utf8 = 1;
  response = ask (port, GET ("/"));
  CHECK (strcmp (parameter (response, "Digest realm="), "a \\") == 0);
  CHECK (strstr (response, ", opaque=\"o\\\"p\"") && strcmp (parameter (response, " domain="), "/a /b") == 0);
  CHECK (strcmp (parameter (response, " qop="), "auth") == 0);
  CHECK (strcmp (parameter (response, "algorithm="), "MD5") == 0);
  CHECK (strcmp (parameter (response, "userhash="), "true") == 0 && strstr (response, "charset=UTF-8"));
  free (response);
  /* As in RFC 2069. */
  set.qop = MHD_DIGEST_AUTH_MULT_QOP_NONE;
  set.algo = MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_NON_SESSION;
  response = ask (port, GET ("/"));
  CHECK (strstr (response, "qop") == NULL && strstr (response, "userhash") == NULL);
  CHECK (strstr (response, "charset") == NULL);
  CHECK (strcmp (parameter (response, "algorithm="), "SHA-256") == 0);
  free (response);
  set.opaque = set.domain = NULL;
  set.userhash = set.utf8 = 0;
}

static void
test_options (void)
{
  static const char random[] = "these bytes are copied";
  struct client it = CLIENT (MHD_DIGEST_AUTH_ALGO3_MD5, NULL), other;
  struct MHD_Daemon *daemon;
  uint16_t port;
  char *nonce;

  memset (&set, 0, sizeof (set));
  set.qop = MHD_DIGEST_AUTH_MULT_QOP_AUTH;
  set.algo = MHD_DIGEST_AUTH_MULT_ALGO3_ANY_NON_SESSION;
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, digest, NULL, MHD_OPTION_DIGEST_AUTH_RANDOM, sizeof (random),
                             random,
                             MHD_OPTION_NONCE_NC_SIZE, (unsigned) -1, MHD_OPTION_DIGEST_AUTH_DEFAULT_NONCE_TIMEOUT, 1u,
                             MHD_OPTION_DIGEST_AUTH_DEFAULT_MAX_NC, (uint32_t) 2, MHD_OPTION_END);
  port = port_of (daemon);
  it.nonce = nonce_of (port);
  /* The default is so short that it may have passed already. */
  set.timeout = 600;
  RESULT (&it, MHD_DAUTH_OK);
  it.nc = "00000003";
  RESULT (&it, MHD_DAUTH_NONCE_STALE);
  set.max_nc = 5;
  RESULT (&it, MHD_DAUTH_OK);
  it.nc = "00000004";
  usleep (1100 * 1000);
  set.timeout = 0;
  RESULT (&it, MHD_DAUTH_NONCE_STALE);
  set.timeout = 600;
  RESULT (&it, MHD_DAUTH_OK);
  MHD_stop_daemon (daemon);
  set.max_nc = set.timeout = 0;

  /* Each condition. Zero means the default. */
  daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, digest, NULL, MHD_OPTION_DIGEST_AUTH_RANDOM_COPY, sizeof (random),
                             random, MHD_OPTION_DIGEST_AUTH_NONCE_BIND_TYPE,
                             (unsigned) (MHD_DAUTH_BIND_NONCE_URI | MHD_DAUTH_BIND_NONCE_CLIENT_IP),
                             MHD_OPTION_NONCE_NC_SIZE, 0u, MHD_OPTION_DIGEST_AUTH_DEFAULT_NONCE_TIMEOUT, 0u,
                             MHD_OPTION_DIGEST_AUTH_DEFAULT_MAX_NC, (uint32_t) 0, MHD_OPTION_END);
  port = port_of (daemon);
  /* A nonce of the daemon before. */
  RESULT (&it, MHD_DAUTH_NONCE_WRONG);
  nonce = nonce_of (port);
  it.nonce = nonce;
  RESULT (&it, MHD_DAUTH_OK);
  other = it;
  other.nc = "00000005";
  other.uri = "/a%20b?other";
  RESULT (&other, MHD_DAUTH_OK);
  other.uri = "/other";
  RESULT (&other, MHD_DAUTH_NONCE_OTHER_COND);
  other.uri = it.uri;
  other.method = "PUT";
  RESULT (&other, MHD_DAUTH_NONCE_OTHER_COND);
  MHD_stop_daemon (daemon);
}

int
main (void)
{
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, digest, NULL, MHD_OPTION_END);

  test_forms (port_of (daemon));
  test_results (port_of (daemon));
  MHD_stop_daemon (daemon);
  test_options ();
  return 0;
}
